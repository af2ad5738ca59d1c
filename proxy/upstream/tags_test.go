package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestTags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, n, last, body, link string
		asked, want               string
		next                      url.Values
	}{
		{"all", "", "", `{"name":"acme/app","tags":["b","a"]}`, "", "/v2/acme/app/tags/list", "[b a]", nil},
		{
			"n and last are passed on",
			"2",
			"v1.0",
			`{"tags":["x"]}`,
			"",
			"/v2/acme/app/tags/list?last=v1.0&n=2",
			"[x]",
			nil,
		},
		{
			"they cannot add to the query",
			"2&x=1",
			"a=b&n=3#f",
			`{"tags":[]}`,
			"",
			"/v2/acme/app/tags/list?last=a%3Db%26n%3D3%23f&n=2%26x%3D1",
			"[]",
			nil,
		},
		{
			"next",
			"2",
			"",
			`{"tags":["a","b"]}`,
			`</v2/acme/app/tags/list?last=b&n=2>; rel="next"`,
			"/v2/acme/app/tags/list?n=2",
			"[a b]",
			url.Values{"last": {"b"}, "n": {"2"}},
		},
		{
			"next, only the spec's own parameters",
			"2",
			"",
			`{"tags":["a"]}`,
			`<?last=b&n=2&next_page=zzz&token=` + mark + `>; rel="next"`,
			"/v2/acme/app/tags/list?n=2",
			"[a]",
			url.Values{"last": {"b"}, "n": {"2"}},
		},
		{
			"next after an escaped tag",
			"1",
			"",
			`{"tags":["a"]}`,
			`<?last=a%26b&n=1>; rel="next"`,
			"/v2/acme/app/tags/list?n=1",
			"[a]",
			url.Values{"last": {"a&b"}, "n": {"1"}},
		},
		{"null", "", "", `{"tags":null}`, "", "/v2/acme/app/tags/list", "[]", nil},
		{"none", "", "", `{}`, "", "/v2/acme/app/tags/list", "[]", nil},
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
			tags, next, err := openBare(t, s.url, Auth{}).Tags(t.Context(), repo, tt.n, tt.last, plenty)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(tags) != tt.want || next.Encode() != tt.next.Encode() || (next == nil) != (tt.next == nil) {
				t.Errorf("%q, next %v", tags, next)
			}
			if got := s.requests()[0].uri; got != tt.asked {
				t.Errorf("asked for %s; want %s", got, tt.asked)
			}
		})
	}
	for _, body := range []string{``, `<html>`, `[]`, `{"tags":"a"}`, `{"tags":[1]}`, `{"tags":["a"`} {
		t.Run(fmt.Sprintf("refused: %s", body), func(t *testing.T) {
			s := serve(t, "http", "", always(200, nil, body))
			tags, _, err := openBare(t, s.url, Auth{}).Tags(t.Context(), repo, "", "", plenty)
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
	query := url.Values{"n": {"2"}}
	for range 10 {
		tags, next, err := u.Tags(t.Context(), repo, query.Get("n"), query.Get("last"), plenty)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, tags...)
		if next == nil {
			break
		}
		query = next
	}
	if fmt.Sprint(got) != fmt.Sprint(all) || len(s.requests()) != 3 {
		t.Errorf("%q in %d requests", got, len(s.requests()))
	}
}
