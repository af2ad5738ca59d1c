package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
)

// A registry that counts fetches is asked by HEAD first, which it does not count:
// what the state still has is not fetched again. Any other is asked by one GET.
func TestCountedManifests(t *testing.T) {
	t.Parallel()
	for name, counted := range map[string]bool{"counted": true, "free": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if counted {
					w.Header().Set("RateLimit-Limit", "100;w=21600")
				}
				r.reg.ServeHTTP(w, q)
			}))
			t.Cleanup(server.Close)
			base, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(up.Close)
			r.upstreams["reg.example"] = up
			r.reload()
			image := r.signed("v1")
			index := r.reg.PushIndex("prod/app", "all", image.Digest)
			r.reg.Sign("prod/app", index, r.key)
			byTag := func(method string) int {
				return r.reg.Count(func(q hostile.Request) bool {
					return q.Method == method && q.Reference == "v1" && q.Kind == hostile.Manifests
				})
			}

			r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
			if heads, gets := byTag(http.MethodHead), byTag(http.MethodGet); heads != 0 || gets != 1 {
				t.Errorf("of a repository that is not known: %d HEAD, %d GET", heads, gets)
			}

			r.get(manifests("prod/app", "all"))
			r.restart() // the state still has the manifests
			r.reg.Forget()
			r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
			heads, gets := byTag(http.MethodHead), byTag(http.MethodGet)
			if counted && (heads != 1 || gets != 0) || !counted && (heads != 0 || gets != 1) {
				t.Errorf("%d HEAD, %d GET", heads, gets)
			}

			moved := r.signed("v1") // to a manifest that is not known
			r.restart()
			r.reg.Forget()
			r.get(manifests("prod/app", "v1")).served(t, moved.Manifest)
			heads, gets = byTag(http.MethodHead), byTag(http.MethodGet)
			if counted && heads != 1 || !counted && heads != 0 || gets != 1 {
				t.Errorf("of a moved tag: %d HEAD, %d GET", heads, gets)
			}
		})
	}
}
