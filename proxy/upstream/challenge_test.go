package upstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestBasicChallenge(t *testing.T) {
	t.Parallel()
	registry := func(word string) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Authorization") != basicHeaderOf(testUser, testPassword) {
				challenge(w, word+` realm="Registry"`)
				return
			}
			sendManifest(w, someBytes)
		}
	}
	for _, word := range []string{"Basic", "basic", "BASIC"} {
		t.Run(word, func(t *testing.T) {
			s := serve(t, "http", "", registry(word))
			u := openBare(t, s.url, basicCredentials(t))
			mustManifest(t, u)
			mustManifest(t, u)
			if n := len(s.requests()); n != 3 { // the second pull shows it at once
				t.Errorf("%s: %d requests; want 3", word, n)
			}
			if got := s.requests()[0].header.Get("Authorization"); got != "" {
				t.Errorf("%s: credentials were shown unasked", word)
			}
		})
	}

	t.Run("without credentials", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "http", "", registry("Basic"))
		e := wantUpstream(t, manifestOf(t, openBare(t, s.url, Auth{})), http.StatusUnauthorized)
		if e.HadAuth {
			t.Error("HadAuth")
		}
		if n := len(s.requests()); n != 1 {
			t.Errorf("%d requests; want 1", n)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "http", "", registry("Basic"))
		u := openBare(t, s.url, basicFrom(t, file(t, "wrong-"+mark)))
		for i := range 2 {
			e := wantUpstream(t, manifestOf(t, u), http.StatusUnauthorized)
			if !e.HadAuth {
				t.Error("HadAuth is not set")
			}
			if n := len(s.requests()); n > 2*(i+1) {
				t.Errorf("%d requests after %d pulls: the same secret is shown again and again", n, i+1)
			}
		}
	})
}

func TestOtherChallenges(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, challenge string }{
		{"none", ""},
		{"unknown scheme", `Negotiate abc`},
		{"only a word", `Bearer`},
		{"no realm", `Bearer service="x"`},
		{"empty realm", `Bearer realm=""`},
		{"relative realm", `Bearer realm="/token"`},
		{"no scheme", `Bearer realm="//host/token"`},
		{"file", `Bearer realm="file:///etc/passwd"`},
		{"ftp", `Bearer realm="ftp://host/token"`},
		{"userinfo", `Bearer realm="http://a:b@HOST/token"`},
		{"no URL", `Bearer realm="http://%zz/"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, auth := range []Auth{{}, basicCredentials(t)} {
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					if tt.challenge != "" {
						w.Header()["WWW-Authenticate"] = []string{strings.ReplaceAll(tt.challenge, "HOST", q.Host)}
					}
					w.WriteHeader(http.StatusUnauthorized)
				})
				err := manifestOf(t, openBare(t, s.url, auth))
				want := http.StatusBadGateway
				if !strings.HasPrefix(tt.challenge, "Bearer") {
					want = http.StatusUnauthorized
				}
				wantUpstream(t, err, want)
				if n := len(s.requests()); n != 1 {
					t.Errorf("%d requests; want 1", n)
				}
				if got := s.credentialsSeen(); len(got) != 0 {
					t.Errorf("credentials were shown: %q", got)
				}
			}
		})
	}
}

func TestChallengeParameters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     map[string]string
	}{
		{"quoted", `realm="https://a/t",service="b"`, map[string]string{"realm": "https://a/t", "service": "b"}},
		{"tokens", `realm=https://a/t, service=b`, map[string]string{"realm": "https://a/t", "service": "b"}},
		{"spaces", ` realm = "a" ,  service="b c" `, map[string]string{"realm": "a", "service": "b c"}},
		{"names without case", `Realm="a",SERVICE="b"`, map[string]string{"realm": "a", "service": "b"}},
		{"the first counts", `realm="a",realm="b",Realm="c"`, map[string]string{"realm": "a"}},
		{
			"a comma inside quotes",
			`scope="repository:a:pull,push",realm="x"`,
			map[string]string{"scope": "repository:a:pull,push", "realm": "x"},
		},
		{
			"a parameter inside quotes is none",
			`scope="realm=evil",realm="good"`,
			map[string]string{"scope": "realm=evil", "realm": "good"},
		},
		{"nothing", ``, map[string]string{}},
		{"rubbish", `,,,=,"`, map[string]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := challengeParams(tt.in)
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
	if n := len(challengeParams(strings.Repeat(`a`+"=1,", 1<<20))); n > 1 {
		t.Errorf("%d parameters", n)
	}
}

// A Bearer challenge is met before a Basic one, and although an unknown one stands
// before it.
func TestSeveralChallenges(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Add("WWW-Authenticate", "Negotiate")
		if q.URL.Path != "/token" && q.Header.Get("Authorization") == "" {
			w.Header().Add("WWW-Authenticate", bearer("http://"+q.Host+"/token"))
			w.Header().Add("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		r.ServeHTTP(w, q)
	})
	u := openBare(t, s.url, basicCredentials(t))
	mustManifest(t, u)
	for _, q := range s.to("/v2/") {
		if strings.HasPrefix(q.header.Get("Authorization"), "Basic") {
			t.Error("the password was shown where a token was enough")
		}
	}
}

// Only the registry's own challenge counts. A host that it redirects to gets nothing
// for a challenge: no credentials, no token made for the registry, and no request to
// a realm that it names.
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

// A redirect's target can answer with a challenge too. It must neither get the
// credentials nor send them anywhere.
func TestChallengeOfRedirectTarget(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Basic", "Bearer", "Bearer of the registry's realm"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			store := serve(t, "https", "cdn.elsewhere.test", func(w http.ResponseWriter, q *http.Request) {
				switch kind {
				case "Basic":
					challenge(w, `Basic realm="give"`)
				case "Bearer":
					challenge(w, bearer("https://cdn.elsewhere.test/token"))
				default:
					challenge(w, bearer("https://registry.example/token"))
				}
			})
			registry := serve(t, "https", "registry.example", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/token" {
					_, _ = w.Write([]byte(`{"token":"abc-` + mark + `"}`))
					return
				}
				http.Redirect(w, q, store.url+"/blob", http.StatusTemporaryRedirect)
			})
			u := open(t, registry.url, basicCredentials(t), registry, store)
			_, err := u.Blob(t.Context(), repo, someHash, plenty)
			if err == nil {
				t.Fatal("no error")
			}
			noSecret(t, err)
			if got := store.credentialsSeen(); len(got) != 0 {
				t.Errorf("the redirect's target got %q", got)
			}
		})
	}
}
