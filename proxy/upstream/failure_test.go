package upstream

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A credential helper is a program: it runs to get credentials, never to word an
// error.
func TestErrorsWithoutHelper(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	script := "#!/bin/sh\necho run >> '" + log + "'\n" +
		`echo '{"Username":"` + testUser + `","Secret":"` + testPassword + `"}'` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-pullgate-test"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	runs := func() int {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}

		return strings.Count(string(b), "run\n")
	}

	tests := []struct {
		name  string
		h     http.HandlerFunc
		want  int
		asked int // how often credentials are needed for each request
	}{
		{"404", always(404, nil, ""), 404, 0},
		{"403", always(403, nil, ""), 403, 0},
		{"429", always(429, nil, ""), 429, 0},
		{"500", always(500, nil, ""), 503, 0},
		{"401 without a challenge", always(401, nil, ""), 401, 0},
		{"redirect without a target", always(307, nil, ""), 502, 0},
		{"other bytes", always(200, map[string]string{"Docker-Content-Digest": "sha256:short"}, "{}"), 502, 0},
		{"hangs up", func(w http.ResponseWriter, _ *http.Request) { cut(w, "") }, 503, 0},
		{"hangs up in the body", func(w http.ResponseWriter, _ *http.Request) { cut(w, "{") }, 503, 0},
		{"password refused", always(401, map[string]string{"Www-Authenticate": `Basic realm="x"`}, ""), 401, 1},
		{"realm refused", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/token" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			challenge(w, bearer("http://"+q.Host+"/token"))
		}, 401, 1},
		{"realm is busy", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/token" {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			challenge(w, bearer("http://"+q.Host+"/token"))
		}, 429, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "http", "", tt.h)
			u := openBare(t, s.url, dockerFrom(t, s.name, file(t, `{"credsStore":"pullgate-test"}`)))
			before := runs()

			const failures = 3
			for range failures {
				if e := wantUpstream(t, manifestOf(t, u), tt.want); !e.HadAuth {
					t.Error("HadAuth is not set")
				}
			}
			if n := runs() - before; n != failures*tt.asked {
				t.Errorf("%d runs of the helper for %d failures; want %d", n, failures, failures*tt.asked)
			}
		})
	}
}
