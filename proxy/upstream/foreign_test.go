package upstream

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestForeignChallenge: a challenge counts when the registry itself makes it.
// A host it redirects to gets nothing for one: no credentials, no token made
// for the registry, and no question to a realm of its choice.
func TestForeignChallenge(t *testing.T) {
	t.Parallel()
	auths := map[string]func(*testing.T) Auth{
		"anonymous":   func(*testing.T) Auth { return Auth{} },
		"credentials": basicCredentials,
		"listed realm": func(t *testing.T) Auth {
			a := basicCredentials(t)
			a.Realms = []string{"auth.elsewhere.test", "cdn.elsewhere.test"}
			return a
		},
	}
	challenges := map[string]string{
		"Basic":                  `Basic realm="registry.example"`,
		"Bearer of the registry": bearer("https://registry.example/token"),
		"Bearer of the store":    bearer("https://cdn.elsewhere.test/token"),
		"Bearer of another host": bearer("https://auth.elsewhere.test/token"),
	}
	for name, auth := range auths {
		for kind, text := range challenges {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				realm := serve(t, "https", "auth.elsewhere.test", orToken(http.NotFound))
				store := serve(t, "https", "cdn.elsewhere.test", orToken(func(w http.ResponseWriter, _ *http.Request) {
					challenge(w, text)
				}))
				registry := serve(t, "https", "registry.example", orToken(func(w http.ResponseWriter, q *http.Request) {
					http.Redirect(w, q, store.url+"/data", http.StatusFound)
				}))
				_, err := blob(open(t, registry.url, auth(t), registry, store, realm), t.Context())
				for _, s := range []*site{registry, store, realm} {
					if got := s.credentialsSeen(); len(got) != 0 {
						t.Errorf("%s got %q", s.name, got)
					}
					if n := len(s.to("/token")); n != 0 {
						t.Errorf("%s was asked for a token %d times", s.name, n)
					}
				}
				if n := len(registry.requests()) + len(store.requests()); n != 2 {
					t.Errorf("%d requests; want one, and one to where it is redirected", n)
				}
				wantUpstream(t, err, http.StatusBadGateway)
				wantText(t, err, "the host it redirects to wants credentials")
			})
		}
	}
}

// orToken answers /token with a token for anyone, and leaves the rest to next.
func orToken(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
			return
		}
		next(w, q)
	}
}

// TestErrorsWithoutURL: the URL of a blob store carries its access signature,
// and an error's text goes to the log.
func TestErrorsWithoutURL(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	at := "https://cdn.elsewhere.test/data?X-Signature=" + mark
	for name, err := range map[string]error{
		"as it is": &url.Error{Op: "Get", URL: at, Err: cause},
		"wrapped":  errors.Join(&url.Error{Op: "Get", URL: at, Err: cause}),
	} {
		t.Run(name, func(t *testing.T) {
			got := openBare(t, "https://registry.example", Auth{}).fail(t.Context(), err)
			e := wantUpstream(t, got, http.StatusServiceUnavailable)
			wantText(t, e, cause.Error())
			if strings.Contains(got.Error(), "cdn.elsewhere.test") {
				t.Errorf("the text shows where: %v", got)
			}
			if !errors.Is(got, cause) {
				t.Errorf("%v is not %v any more", got, cause)
			}
		})
	}
}
