package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// store is what a registry with object storage redirects blobs to. It refuses
// whoever has no signed URL, or shows it credentials beside.
type store struct {
	clients atomic.Int64 // answers to others than the gate
	wrong   atomic.Int64
}

// startRedirecting starts a registry that has its blobs in a store.
func startRedirecting(t *testing.T, registry string) (addr string, s *store) {
	t.Helper()
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	s = &store{}
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.URL.Query().Get("X-Amz-Signature") != "a/b+c" {
			s.wrong.Add(1)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if !strings.HasPrefix(r.UserAgent(), "pullgate/") {
			s.clients.Add(1)
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(bucket.Close)

	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			behind.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Location", bucket.URL+r.URL.Path+"?X-Amz-Expires=60&X-Amz-Signature=a%2Fb%2Bc")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	t.Cleanup(front.Close)
	return strings.TrimPrefix(front.URL, "http://"), s
}

// TestHandedOnBlobs pulls with every client from a gate that hands redirects on:
// the bytes come from the store, and of a refused image none does.
func TestHandedOnBlobs(t *testing.T) {
	registry := startDistribution(t)
	key, public := keyPair(t)
	signed := pushIndex(t, registry+"/team/signed:v1", 1<<20)
	signers["v3 bundle"](t, key, registry+"/team/signed@"+signed)
	pushIndex(t, registry+"/team/unsigned:v1", 1<<10)

	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			front, s := startRedirecting(t, registry)
			g := startGateWith(t, front, ", blobs: redirect", signedBy(public))
			pull := c.start(t, g)

			if out, err := pull(t, "team/unsigned:v1"); err == nil {
				t.Errorf("pulled what is not signed:\n%s", out)
			}
			if n := s.clients.Load(); n > 0 {
				t.Errorf("%d answers of the store before anything was admitted", n)
			}

			if out, err := pull(t, "team/signed:v1"); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, tail(g.log.String(), 2000))
			}
			if s.clients.Load() == 0 || s.wrong.Load() > 0 {
				t.Errorf("the store gave %d answers and refused %d requests", s.clients.Load(), s.wrong.Load())
			}
			if !g.willLog(`"redirected":true`) {
				t.Error("the gate's log says nothing of redirects")
			}
		})
	}
}
