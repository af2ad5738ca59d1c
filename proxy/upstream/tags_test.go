package upstream

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestTags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, query, body, link string
		want, next              string
	}{
		{"all", "", `{"name":"acme/app","tags":["b","a"]}`, "", "[b a]", ""},
		{"a page", "last=v1.0&n=2", `{"tags":["x"]}`, "", "[x]", ""},
		{
			"next",
			"n=2",
			`{"tags":["a","b"]}`,
			`</v2/acme/app/tags/list?last=b&n=2>; rel="next"`,
			"[a b]",
			"last=b&n=2",
		},
		{
			"the registry's own token",
			"n=2",
			`{"tags":["a"]}`,
			`<?last=b&n=2&next_page=zzz%3D&token=` + mark + `>; rel="next"`,
			"[a]",
			"last=b&n=2&next_page=zzz%3D&token=" + mark,
		},
		{"after an escaped tag", "n=1", `{"tags":["a"]}`, `<?last=a%26b&n=1>; rel="next"`, "[a]", "last=a%26b&n=1"},
		{"odd tokens", "a;b=%zz", `{"tags":["a"]}`, `<?a;b=%zz&x>; rel="next"`, "[a]", "a;b=%zz&x"},
		{"null", "", `{"tags":null}`, "", "[]", ""},
		{"null among them", "", `{"tags":["a",null,"b"]}`, "", "[a b]", ""},
		{"none", "", `{}`, "", "[]", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
				if tt.link != "" {
					w.Header().Set("Link", tt.link)
				}
				_, _ = io.WriteString(w, tt.body)
			})
			tags, next, err := openBare(t, s.url, Auth{}).Tags(t.Context(), repo, tt.query, plenty)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(tags) != tt.want || next != tt.next {
				t.Errorf("%q, next %v", tags, next)
			}
			want := "/v2/acme/app/tags/list"
			if tt.query != "" {
				want += "?" + tt.query
			}
			if got := s.requests()[0].uri; got != want {
				t.Errorf("asked for %s; want %s", got, want)
			}
		})
	}
	for _, body := range []string{``, `<html>`, `[]`, `{"tags":"a"}`, `{"tags":[1]}`, `{"tags":["a"`} {
		t.Run(fmt.Sprintf("refused: %s", body), func(t *testing.T) {
			s := serve(t, "http", "", always(200, nil, body))
			tags, _, err := openBare(t, s.url, Auth{}).Tags(t.Context(), repo, "", plenty)
			wantUpstream(t, err, http.StatusBadGateway)
			if len(tags) != 0 {
				t.Errorf("%s: %q", body, tags)
			}
		})
	}
}

// All pages, one after the other, as a client walks them.
func TestTagsPages(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c", "d", "e"}
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		n, _ := strconv.Atoi(q.URL.Query().Get("n"))
		from := 0
		for from < len(all) && all[from] <= q.URL.Query().Get("last") {
			from++
		}
		to := min(from+n, len(all))
		if to < len(all) {
			w.Header().Set("Link", fmt.Sprintf(`</v2/hub/acme/app/tags/list?n=%d&last=%s>; rel="next"`, n, all[to-1]))
		}
		_, _ = fmt.Fprintf(w, `{"tags":["%s"]}`, strings.Join(all[from:to], `","`))
	})
	u := openBare(t, s.url+"/hub", Auth{})
	var got []string
	query := "n=2"
	for range 10 {
		tags, next, err := u.Tags(t.Context(), repo, query, plenty)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tags...)
		if next == "" {
			break
		}
		query = next
	}
	if fmt.Sprint(got) != fmt.Sprint(all) || len(s.requests()) != 3 {
		t.Errorf("%q in %d requests", got, len(s.requests()))
	}
}
