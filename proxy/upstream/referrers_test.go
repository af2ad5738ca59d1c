package upstream

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

func referrersPath() string { return "/v2/acme/app/referrers/" + someHash.String() }

func descriptor(n int) string {
	const format = `{"mediaType":%q,"digest":%q,"size":%d,` +
		`"artifactType":"application/x-%[3]d","annotations":{"n":"%[3]d"}}`

	return fmt.Sprintf(format, ociManifest, digest.FromString(strconv.Itoa(n)), n)
}

// pages answers with that many pages of one descriptor each.
func pages(n int, link func(page int) string) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		page, _ := strconv.Atoi(q.URL.Query().Get("page")) // 0 for the first
		next := ""
		if page+1 < n {
			next = link(page + 1)
		}
		sendIndex(w, next, descriptor(page))
	}
}

func TestReferrersPages(t *testing.T) {
	t.Parallel()
	links := map[string]func(page int) string{
		"path":  func(p int) string { return referrersPath() + "?page=" + strconv.Itoa(p) },
		"query": func(p int) string { return "?page=" + strconv.Itoa(p) },
	}
	tests := []struct {
		pages, want int
		truncated   bool
	}{{1, 1, false}, {2, 2, false}, {maxPages, maxPages, false}, {maxPages + 1, maxPages, true}, {1000, maxPages, true}}
	for name, link := range links {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%d pages by %s", tt.pages, name), func(t *testing.T) {
				t.Parallel()
				s := serve(t, "http", "", pages(tt.pages, link))
				r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
				if err != nil {
					t.Fatal(err)
				}
				if !r.Supported || r.Truncated != tt.truncated || len(r.Descriptors) != tt.want {
					t.Fatalf("supported %v, truncated %v, %d descriptors", r.Supported, r.Truncated, len(r.Descriptors))
				}
				for i, d := range r.Descriptors {
					if d.Digest != digest.FromString(strconv.Itoa(i)) || d.Size != int64(i) ||
						d.MediaType != ociManifest || d.ArtifactType != fmt.Sprintf("application/x-%d", i) ||
						d.Annotations["n"] != strconv.Itoa(i) {
						t.Errorf("descriptor %d: %+v", i, d)
					}
				}
				if n := len(s.requests()); n != tt.want {
					t.Errorf("%d requests; want %d", n, tt.want)
				}
				if got := s.requests()[0].uri; got != referrersPath() { // no artifactType filter: labels lie
					t.Errorf("asked for %s", got)
				}
			})
		}
	}
}

// Of a link only the query is taken: whatever else it says, the next page is one
// of the same list on the same registry.
func TestForeignNextPage(t *testing.T) {
	t.Parallel()
	thief := serve(t, "http", "evil.example", func(w http.ResponseWriter, _ *http.Request) {
		sendIndex(w, "", descriptor(7))
	})
	tests := []struct{ name, target string }{
		{"other host", `http://evil.example` + referrersPath()},
		{"other host, no scheme", `//evil.example` + referrersPath()},
		{"other port", `http://registry.example:8080` + referrersPath()},
		{"other scheme", `https://registry.example` + referrersPath()},
		{"userinfo", `http://a:b@registry.example` + referrersPath()},
		{"look-alike", `http://registry.example.evil.example` + referrersPath()},
		{"other repository", `/v2/acme/secret/referrers/` + someHash.String()},
		{"other image", `/v2/acme/app/referrers/` + digest.FromString("x").String()},
		{"other kind", `/v2/acme/app/tags/list`},
		{"dots", referrersPath() + `/../x`},
		{"below", referrersPath() + `/x`},
		{"root", `/`},
		{"no path", ``},
		{"no URL", `http://%zz/`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "registry.example", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.RawQuery == "" {
					w.Header().Set("Link", "<"+tt.target+`?page=1>; rel="next"`)
				}
				if strings.Contains(q.URL.Path, "/tags/") {
					_, _ = io.WriteString(w, `{"tags":["a"]}`)
					return
				}
				sendIndex(w, "", descriptor(0))
			})
			u := open(t, s.url, Auth{}, s, thief)

			r, err := u.Referrers(t.Context(), repo, someHash, plenty)
			if err != nil || len(r.Descriptors) != 2 {
				t.Errorf("%+v, %v", r, err)
			}
			if _, next, err := u.Tags(t.Context(), repo, "", plenty); err != nil || next != "page=1" {
				t.Errorf("Tags: next %q, %v", next, err)
			}

			for _, q := range s.requests() {
				path, _, _ := strings.Cut(q.uri, "?")
				if path != referrersPath() && path != "/v2/acme/app/tags/list" {
					t.Errorf("asked for %s", q.uri)
				}
			}
		})
	}
	t.Cleanup(func() {
		if n := len(thief.requests()); n != 0 {
			t.Errorf("the other host got %d requests", n)
		}
	})
}

// A list whose next page cannot be found is no list: what is left could hold a
// signature.
func TestMalformedLink(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]string{
		"no brackets":    referrersPath() + `?page=1; rel="next"`,
		"open":           `<` + referrersPath() + `?page=1; rel="next"`,
		"a word":         `next`,
		"spaces inside":  `<` + referrersPath() + `?page= 1>; rel="next"`,
		"a quote inside": `<` + referrersPath() + `?page="1>; rel="next"`,
		"long":           `<` + referrersPath() + `?page=1&pad=` + strings.Repeat("x", 5000) + `>; rel="next"`,
		"open quotes":    `<` + referrersPath() + `?page=1>; rel="next`,
		"no query":       `</v2/acme/app/pages/2>; rel="next"`,
		"fragment only":  `</pages/2#?page=1>; rel="next"`,
		"after another":  `<https://cdn.example/x>; rel=preload, <` + referrersPath() + `?page=1; rel="next"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "registry.example", func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Link", link)
				if strings.Contains(q.URL.Path, "/tags/") {
					_, _ = io.WriteString(w, `{"tags":["a"]}`)
					return
				}
				sendIndex(w, "", descriptor(0))
			})
			u := open(t, s.url, Auth{}, s)

			r, err := u.Referrers(t.Context(), repo, someHash, plenty)
			wantUpstream(t, err, http.StatusBadGateway)
			if r.Supported || len(r.Descriptors) != 0 {
				t.Errorf("half a list was handed on: %+v", r)
			}
			_, next, err := u.Tags(t.Context(), repo, "", plenty)
			wantUpstream(t, err, http.StatusBadGateway)
			if next != "" {
				t.Errorf("Tags: next %q", next)
			}
		})
	}
}

func TestLinkSpellings(t *testing.T) {
	t.Parallel()
	const odd = "a;b,c=%2F+%zz==&&n=1?/:@!$'()*[]{}|^~"
	long := "orderby=&last=x%2C1&" + strings.Repeat("t", 3000)
	for link, query := range map[string]string{
		`<` + referrersPath() + `?page=1>; rel="next"`:                                 "page=1",
		`<` + referrersPath() + `?page=1>;rel="next"`:                                  "page=1",
		`<` + referrersPath() + `?page=1>; rel=next`:                                   "page=1",
		` <` + referrersPath() + `?page=1> ; rel="next" `:                              "page=1",
		`<http://registry.example` + referrersPath() + `?page=1>; rel="next"`:          "page=1",
		`<http://REGISTRY.example` + referrersPath() + `?page=1>; rel="next"`:          "page=1",
		`<` + strings.ReplaceAll(referrersPath(), ":", "%3A") + `?page=1>; rel="next"`: "page=1",
		`<` + referrersPath() + `?page=1#fragment>; rel="next"`:                        "page=1",
		`<?page=1>; rel="next"`:                                                        "page=1",
		`<?page=1>; rel = "next"`:                                                      "page=1",
		`<?page=1>; REL="NEXT"`:                                                        "page=1",
		`<?page=1>; rel="last next"`:                                                   "page=1",
		`<?page=1>; rel="next  last"`:                                                  "page=1",
		`<?page=1>; rel="ne\xt"`:                                                       "page=1",
		`<?page=1>; title="a, b; <c>"; rel="next"`:                                     "page=1",
		`<?page=1>; title="say \"hi\", do"; rel=next`:                                  "page=1",
		`<?page=1>; crossorigin; ; rel=next`:                                           "page=1",
		`<?page=0>; rel="prev", <?page=1>; rel="next"`:                                 "page=1",
		`<?page=1>; rel="next", <http://evil.example/?page=2>; rel="next"`:             "page=1",
		`,, <https://cdn.example/a.css>; rel=preload; as=style ,<?page=1>;rel=next`:    "page=1",
		`<?page=2>; rel="prev"; rel="next", <?page=1>; rel=next`:                       "page=1",
		`<?page=2>; rel="next"; anchor="/elsewhere", <?page=1>; rel=next`:              "page=1",
		`<?last=a%26b&n=1>; rel="next"`:                                                "last=a%26b&n=1",
		"<?" + odd + `>; rel="next"`:                                                   odd,
		"<?" + long + `>; rel="next"`:                                                  long,
	} {
		t.Run(link[:min(len(link), 80)], func(t *testing.T) {
			s := serve(t, "http", "registry.example", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.RawQuery == "" {
					w.Header().Set("Link", link)
				}
				sendIndex(w, "", descriptor(0))
			})
			r, err := open(t, s.url, Auth{}, s).Referrers(t.Context(), repo, someHash, plenty)
			if err != nil || len(r.Descriptors) != 2 || r.Truncated {
				t.Fatalf("%s: %+v, %v", link, r, err)
			}
			if got := s.requests()[1].uri; got != referrersPath()+"?"+query {
				t.Errorf("%s: asked for %s", link, got)
			}
		})
	}
}

// A link may stand in a field of its own, after others.
func TestLinkFields(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		if q.URL.RawQuery == "" {
			w.Header()["Link"] = []string{`<https://cdn.example/x>; rel=preload`, `nonsense`, `<?page=1>; rel="next"`}
		}
		sendIndex(w, "", descriptor(0))
	})
	r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
	if err != nil || len(r.Descriptors) != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Programs in Go write an empty list as null. A page that lists nothing and links
// to another is not the last.
func TestEmptyReferrersPages(t *testing.T) {
	t.Parallel()
	for name, empty := range map[string]string{"null": "null", "a list": "[]"} {
		for _, before := range []int{0, 1, 3, 6} {
			t.Run(fmt.Sprintf("%s, after %d", name, before), func(t *testing.T) {
				t.Parallel()
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					page, _ := strconv.Atoi(q.URL.Query().Get("page"))
					if page == before {
						sendIndex(w, "?page="+strconv.Itoa(page+1), descriptor(1))
						return
					}
					w.Header().Set("Content-Type", indexType)
					if page < before {
						w.Header().Set("Link", fmt.Sprintf(`<?page=%d>; rel="next"`, page+1))
					}
					_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":`+empty+`}`)
				})
				r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
				if err != nil || !r.Supported || r.Truncated || len(r.Descriptors) != 1 {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	}
	t.Run("without end", func(t *testing.T) {
		t.Parallel()
		n := 0
		s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
			n++
			sendIndex(w, "?page="+strconv.Itoa(n))
		})
		r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
		if err != nil || !r.Truncated || len(s.requests()) != maxEmptyPages {
			t.Errorf("%+v, %v after %d requests", r, err, len(s.requests()))
		}
	})
}

// A registry that leads in a circle is left when it comes back to a page.
func TestReferrersCircle(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		referrersPath(),
		"http://inner.example" + referrersPath(),
		"#x",
		referrersPath() + "?",
	} {
		s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { sendIndex(w, target, descriptor(1)) })
		r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
		if err != nil || len(r.Descriptors) != 1 || !r.Truncated || len(s.requests()) != 1 {
			t.Errorf("%s: %+v, %v", target, r, err)
		}
	}
	for _, length := range []int{1, 2, 3} {
		s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
			page, _ := strconv.Atoi(q.URL.Query().Get("page"))
			sendIndex(w, fmt.Sprintf("?page=%d", page%length+1), descriptor(page))
		})
		r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
		if err != nil || len(r.Descriptors) != length+1 || !r.Truncated {
			t.Errorf("a circle of %d: %d, truncated %v, %v", length, len(r.Descriptors), r.Truncated, err)
		}
	}
}

// Some answers mean "none here", and the fallback tag is looked at next. All others
// mean "could not tell": a denial must not rest on them.
func TestRegistryWithoutReferrers(t *testing.T) {
	t.Parallel()
	none := []struct {
		name, mediaType, body string
		status                int
	}{
		{"404", "application/json", `{"errors":[]}`, 404},
		{"405", "text/plain", ``, 405},
		{"501", "text/plain", ``, 501},
		{"400", "application/json", `{"errors":[]}`, 400},
		{"a page", "text/html", `<html></html>`, 200},
		{"a page that holds an index", "text/html", `{"manifests":[]}`, 200},
		{"plain JSON", "application/json", `{"manifests":[]}`, 200},
		{"no media type", "", `{"manifests":[]}`, 200},
		{"an empty object", indexType, `{}`, 200},
		{"null", indexType, `null`, 200},
		{"manifests are no list", indexType, `{"manifests":{}}`, 200},
		{"manifests are numbers", indexType, `{"manifests":[1]}`, 200},
		{"nothing", indexType, ``, 200},
		{"no JSON", indexType, `<html></html>`, 200},
		{"cut JSON", indexType, `{"manifests":[`, 200},
	}
	for _, tt := range none {
		t.Run("none here: "+tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = nil
				if tt.mediaType != "" {
					w.Header().Set("Content-Type", tt.mediaType)
				}
				w.Header().Set("Link", `<http://evil.example/>; rel="next"`)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
			if err != nil || r.Supported || r.Truncated || len(r.Descriptors) != 0 {
				t.Errorf("%+v, %v", r, err)
			}
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
	for status, want := range map[int]int{
		401: 401,
		403: 403,
		406: 406,
		410: 410,
		416: 416,
		429: 429,
		500: 503,
		502: 503,
		503: 503,
		504: 503,
		204: 502,
		304: 502,
	} {
		t.Run("could not tell: "+strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", always(status, nil, ""))
			r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
			wantUpstream(t, err, want)
			if r.Supported || len(r.Descriptors) != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
	t.Run("none here: sent to a web page, which is not asked (GHCR)", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "http", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/page", http.StatusSeeOther)
		})
		r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
		if err != nil || r.Supported || len(r.Descriptors) != 0 || len(s.requests()) != 1 {
			t.Errorf("%+v, %v, %d requests", r, err, len(s.requests()))
		}
	})
	t.Run("an empty list is an answer", func(t *testing.T) {
		t.Parallel()
		header := map[string]string{"Content-Type": indexType + "; charset=utf-8"}
		s := serve(t, "http", "", always(200, header, `{"manifests":[]}`))
		r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
		if err != nil || !r.Supported || r.Truncated || len(r.Descriptors) != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// Half a list would hide a signature, so a page that fails fails the whole.
func TestBrokenSecondPage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		second http.HandlerFunc
		want   int
	}{
		{"404", always(404, nil, ""), 404},
		{"400", always(400, nil, ""), 400},
		{"405", always(405, nil, ""), 405},
		{"501", always(501, nil, ""), 501},
		{"500", always(500, nil, ""), 503},
		{"429", always(429, nil, ""), 429},
		{"hangs up", func(w http.ResponseWriter, _ *http.Request) { cut(w, "") }, 503},
		{"hangs up in the body", func(w http.ResponseWriter, _ *http.Request) { cut(w, `{"manifests":[`) }, 503},
		{"no JSON", always(200, map[string]string{"Content-Type": indexType}, "<html>"), 502},
		{"no index", always(200, map[string]string{"Content-Type": indexType}, "{}"), 502},
		{"a page", always(200, map[string]string{"Content-Type": "text/html"}, "<html>"), 502},
		{
			"encoded",
			always(200, map[string]string{"Content-Type": indexType, "Content-Encoding": "gzip"}, `{"manifests":[]}`),
			502,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.RawQuery != "" {
					tt.second(w, q)
					return
				}
				sendIndex(w, "?page=1", descriptor(0))
			})
			r, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, someHash, plenty)
			wantUpstream(t, err, tt.want)
			if r.Supported || len(r.Descriptors) != 0 {
				t.Errorf("half a list was handed on: %+v", r)
			}
		})
	}
}

// The limit is on all pages together.
func TestReferrersLimit(t *testing.T) {
	t.Parallel()
	body := `{"manifests":[` + descriptor(1) + `]}`
	size := int64(len(body))
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		page, _ := strconv.Atoi(q.URL.Query().Get("page"))
		w.Header().Set("Content-Type", indexType)
		if page < 2 {
			w.Header().Set("Link", fmt.Sprintf(`<?page=%d>; rel="next"`, page+1))
		}
		_, _ = io.WriteString(w, body)
	})
	u := openBare(t, s.url, Auth{})
	tests := []struct {
		limit    int64
		complete bool
	}{
		{3 * size, true},
		{3*size + 1, true},
		{3*size - 1, false},
		{2*size + 1, false},
		{2 * size, false},
		{size, false},
		{size - 1, false},
		{1, false},
		{0, false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d of %d bytes", tt.limit, 3*size), func(t *testing.T) {
			r, err := u.Referrers(t.Context(), repo, someHash, tt.limit)
			switch {
			case tt.complete:
				if err != nil || r.Truncated || len(r.Descriptors) != 3 {
					t.Errorf("limit %d of %d: %+v, %v", tt.limit, 3*size, r, err)
				}
			case err != nil:
				wantUpstream(t, err, http.StatusBadGateway)
				if !errors.Is(err, oci.ErrTooLarge) {
					t.Errorf("limit %d: %v", tt.limit, err)
				}
			case !r.Truncated: // a list that looks whole and is not
				t.Errorf("limit %d of %d: %+v", tt.limit, 3*size, r)
			}
			if whole := tt.limit / size; tt.limit%size == 0 && whole < 3 &&
				(err != nil || int64(len(r.Descriptors)) != whole) {
				t.Errorf("limit %d, which ends with a page: %+v, %v; want what was read, as a part", tt.limit, r, err)
			}
		})
	}
}

func TestReferrersAlgorithm(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { sendIndex(w, "", descriptor(0)) })
	long := digest.SHA512.FromBytes(someBytes)
	if _, err := openBare(t, s.url, Auth{}).Referrers(t.Context(), repo, long, plenty); err != nil {
		t.Fatal(err)
	}
	if got := s.requests()[0].uri; got != "/v2/acme/app/referrers/"+long.String() {
		t.Errorf("asked for %s", got)
	}
}
