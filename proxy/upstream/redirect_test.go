package upstream

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// A blob store is another party: a token shown there could be used against the
// registry (GHSA-vh4v-2xq2-g5cg is the same fault elsewhere).
func TestRedirectToAnotherOrigin(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, scheme, registry, store string }{
		{"other host", "https", "registry.example", "cdn.elsewhere.test"},
		{"same domain, other host", "https", "registry.example", "cdn.registry.example"},
		{"same host, other port", "https", "registry.example", "registry.example:8443"},
		{"plain http", "http", "registry.example", "cdn.elsewhere.test"},
	}
	for _, tt := range tests {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(tt.name+", "+strconv.Itoa(status), func(t *testing.T) {
				t.Parallel()
				store := serve(t, tt.scheme, tt.store, blobHandler(someBytes))
				registry := serve(t, tt.scheme, tt.registry, withToken(func(w http.ResponseWriter, q *http.Request) {
					http.Redirect(w, q, store.url+"/data?X-Signature=abc%2Fdef&x=1", status)
				}))
				u := open(t, registry.url, basicCredentials(t), registry, store)
				for range 2 { // the second with a cached token
					b, err := blob(u, t.Context())
					if err != nil || string(b) != string(someBytes) {
						t.Fatalf("got %q, %v", b, err)
					}
				}
				got := store.requests()
				if len(got) != 2 {
					t.Fatalf("%d requests; want 2", len(got))
				}
				for _, q := range got {
					for _, name := range []string{"Authorization", "Cookie", "Referer", "Proxy-Authorization"} {
						if v := q.header.Values(name); len(v) != 0 {
							t.Errorf("%s: %q", name, v)
						}
					}
					if q.uri != "/data?X-Signature=abc%2Fdef&x=1" { // presigned URLs break when respelled
						t.Errorf("asked for %s", q.uri)
					}
					if q.method != http.MethodGet {
						t.Errorf("method %s", q.method)
					}
				}
			})
		}
	}
}

func TestRedirectToAnotherScheme(t *testing.T) {
	t.Parallel()
	secure := serve(t, "https", "registry.example", blobHandler(someBytes))
	plain := serve(t, "http", "registry.example", withToken(func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, secure.url+"/data", http.StatusFound)
	}))
	u := open(t, plain.url, Auth{}, plain, secure)
	if _, err := blob(u, t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := secure.credentialsSeen(); len(got) != 0 {
		t.Errorf("it got %q", got)
	}
}

func TestRedirectWithinOrigin(t *testing.T) {
	t.Parallel()
	for _, location := range []string{
		"/elsewhere?a=b",
		"https://registry.example/elsewhere?a=b",
		"https://REGISTRY.example/elsewhere?a=b",
		"//registry.example/elsewhere?a=b",
	} {
		t.Run(location, func(t *testing.T) {
			s := serve(t, "https", "registry.example", withToken(func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/elsewhere" {
					sendBlob(w, someBytes)
					return
				}
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			// The dialer is asked for the name as it is written.
			upper := &site{name: "REGISTRY.example", url: s.url, address: s.address}
			u := open(t, s.url, Auth{}, s, upper)
			if _, err := blob(u, t.Context()); err != nil {
				t.Errorf("%s: %v", location, err)
				return
			}
			got := s.to("/elsewhere")
			if len(got) != 1 || got[0].header.Get("Authorization") != "Bearer token-"+mark {
				t.Errorf("%s: %+v", location, got)
			}
		})
	}
}

// The bytes from a redirect's target are hashed as well.
func TestRedirectToOtherBytes(t *testing.T) {
	t.Parallel()
	store := serve(t, "https", "cdn.elsewhere.test", blobHandler([]byte("other")))
	registry := serve(t, "https", "registry.example", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, store.url+"/data", http.StatusFound)
	})
	_, err := blob(open(t, registry.url, Auth{}, registry, store), t.Context())
	wantUpstream(t, err, http.StatusBadGateway)
}

func TestRedirectCount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		hops int
		ok   bool
	}{{1, true}, {maxRedirects - 1, true}, {maxRedirects, false}, {1 << 30, false}}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d redirects", tt.hops), func(t *testing.T) {
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				n, _ := strconv.Atoi(strings.TrimPrefix(q.URL.Path, "/hop/")) // 0 for the first
				if n == tt.hops {
					sendBlob(w, someBytes)
					return
				}
				http.Redirect(w, q, "/hop/"+strconv.Itoa(n+1), http.StatusFound)
			})
			_, err := blob(openBare(t, s.url, Auth{}), t.Context())
			if tt.ok {
				if err != nil {
					t.Errorf("%d redirects: %v", tt.hops, err)
				}
				return
			}
			wantUpstream(t, err, http.StatusBadGateway)
			if n := len(s.requests()); n > maxRedirects+1 {
				t.Errorf("%d requests for a chain of %d", n, tt.hops)
			}
		})
	}
}

func TestRedirectLoop(t *testing.T) {
	t.Parallel()
	store := serve(t, "https", "cdn.elsewhere.test", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, "https://registry.example/v2/acme/app/blobs/"+someHash.String(), http.StatusFound)
	})
	registry := serve(t, "https", "registry.example", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, store.url+"/data", http.StatusFound)
	})
	_, err := blob(open(t, registry.url, Auth{}, registry, store), t.Context())
	wantUpstream(t, err, http.StatusBadGateway)
	if n := len(registry.requests()) + len(store.requests()); n > maxRedirects+1 {
		t.Errorf("%d requests", n)
	}
}

func TestRefusedRedirects(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, scheme, location string }{
		{"downgrade, same host", "https", "http://registry.example/data"},
		{"downgrade, other host", "https", "http://cdn.elsewhere.test/data"},
		{"userinfo", "https", "https://user:pw@cdn.elsewhere.test/data"},
		{"user only", "https", "https://user@cdn.elsewhere.test/data"},
		{"userinfo that looks like the registry", "https", "https://registry.example@cdn.elsewhere.test/data"},
		{"userinfo from http", "http", "http://user:pw@cdn.elsewhere.test/data"},
		{"file", "https", "file:///etc/passwd"},
		{"file from http", "http", "file:///etc/passwd"},
		{"ftp", "http", "ftp://cdn.elsewhere.test/data"},
		{"unix", "http", "unix:///run/docker.sock"},
		{"javascript", "https", "javascript:alert(1)"},
		{"no Location", "https", ""},
		{"no URL", "https", "https://%zz/"},
		{"bad port", "https", "https://cdn.elsewhere.test:port/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plain := serve(t, "http", "cdn.elsewhere.test", blobHandler(someBytes))
			secure := serve(t, "https", "cdn.elsewhere.test", blobHandler(someBytes))
			otherScheme := map[string]string{"http": "https", "https": "http"}[tt.scheme]
			other := serve(t, otherScheme, "registry.example", blobHandler(someBytes))
			registry := serve(t, tt.scheme, "registry.example", func(w http.ResponseWriter, _ *http.Request) {
				if tt.location != "" {
					w.Header().Set("Location", tt.location)
				}
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			_, err := blob(open(t, registry.url, Auth{}, registry, plain, secure, other), t.Context())
			wantUpstream(t, err, http.StatusBadGateway)
			if err != nil && strings.Contains(err.Error(), "user:pw") {
				t.Errorf("the text shows the userinfo: %v", err)
			}
			if n := len(plain.requests()) + len(secure.requests()) + len(other.requests()); n != 0 {
				t.Errorf("the target got %d requests", n)
			}
		})
	}
}

// No redirect of a chain may lead from https to http.
func TestDowngradeAtSecondHop(t *testing.T) {
	t.Parallel()
	plain := serve(t, "http", "cdn.elsewhere.test", blobHandler(someBytes))
	secure := serve(t, "https", "cdn.elsewhere.test", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, plain.url+"/data", http.StatusFound)
	})
	for _, scheme := range []string{"https", "http"} { // an http registry that went up stays up
		t.Run("from "+scheme, func(t *testing.T) {
			registry := serve(t, scheme, "registry.example", func(w http.ResponseWriter, q *http.Request) {
				http.Redirect(w, q, secure.url+"/data", http.StatusFound)
			})
			_, err := blob(open(t, registry.url, Auth{}, registry, plain, secure), t.Context())
			wantUpstream(t, err, http.StatusBadGateway)
		})
	}
	if n := len(plain.requests()); n != 0 {
		t.Errorf("%d requests without TLS", n)
	}
}

// All operations follow redirects by the same rules.
func TestRedirectedOperations(t *testing.T) {
	t.Parallel()
	store := serve(t, "https", "cdn.elsewhere.test", func(w http.ResponseWriter, q *http.Request) {
		switch q.URL.Query().Get("for") {
		case "manifests":
			w.Header().Set("Docker-Content-Digest", someHash.String())
			sendManifest(w, someBytes)
		case "referrers":
			w.Header().Set("Content-Type", indexType)
			_, _ = io.WriteString(w, `{"manifests":[]}`)
		default:
			_, _ = io.WriteString(w, `{"tags":["a"]}`)
		}
	})
	registry := serve(t, "https", "registry.example", withToken(func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, store.url+"/x?for="+strings.Split(q.URL.Path, "/")[4], http.StatusFound)
	}))
	u := open(t, registry.url, Auth{}, registry, store)
	mustManifest(t, u)
	if d, ok, err := u.Resolve(t.Context(), repo, "latest"); err != nil || !ok || d != someHash {
		t.Errorf("Resolve: %s, %v, %v", d, ok, err)
	}
	if r, err := u.Referrers(t.Context(), repo, someHash, plenty); err != nil || !r.Supported {
		t.Errorf("Referrers: %+v, %v", r, err)
	}
	if tags, _, err := u.Tags(t.Context(), repo, "", plenty); err != nil || len(tags) != 1 {
		t.Errorf("Tags: %q, %v", tags, err)
	}
	if got := store.credentialsSeen(); len(got) != 0 {
		t.Errorf("the target got %q", got)
	}
	if got := store.requests()[1].method; got != http.MethodHead {
		t.Errorf("a HEAD became %s", got)
	}
}

// A redirect keeps the range and the method.
func TestRedirectMethodAndRange(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			store := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Content-Range", "bytes 2-5/10")
				w.Header().Set("Content-Length", "4")
				w.WriteHeader(http.StatusPartialContent)
				if q.Method == http.MethodGet {
					_, _ = io.WriteString(w, "2345")
				}
			})
			registry := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				http.Redirect(w, q, store.url+"/data", status)
			})
			u := openBare(t, registry.url, Auth{})
			b, err := u.OpenBlob(t.Context(), repo, someHash, method, "bytes=2-5")
			if err != nil {
				t.Fatal(err)
			}
			_ = b.Body.Close()
			q := store.requests()[0]
			if got := fmt.Sprint(q.method, " ", q.header.Get("Range")); got != method+" bytes=2-5" {
				t.Errorf("%d: the store was asked %s", status, got)
			}
		}
	}
}
