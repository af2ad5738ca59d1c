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
				wants(w, word+` realm="Registry"`)
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
				requests := 1
				if tt.challenge == "" { // then /v2/ is asked for one
					requests = 2
				}
				if n := len(s.requests()); n != requests {
					t.Errorf("%d requests; want %d", n, requests)
				}
				if got := s.credentialsSeen(); len(got) != 0 {
					t.Errorf("credentials were shown: %q", got)
				}
			}
		})
	}
}

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	type params = map[string]string
	tests := []struct {
		name string
		in   []string
		want []challenge
	}{
		{"quoted", []string{`Bearer realm="https://a/t",service="b"`}, []challenge{
			{"bearer", params{"realm": "https://a/t", "service": "b"}},
		}},
		{"tokens", []string{`Bearer realm=https://a/t, service=b`}, []challenge{
			{"bearer", params{"realm": "https://a/t", "service": "b"}},
		}},
		{"spaces", []string{`  BEARER   realm = "a" ,  service="b c" `}, []challenge{
			{"bearer", params{"realm": "a", "service": "b c"}},
		}},
		{"names without case", []string{`bEARER Realm="a",SERVICE="b"`}, []challenge{
			{"bearer", params{"realm": "a", "service": "b"}},
		}},
		{
			"the first counts",
			[]string{`Bearer realm="a",realm="b",Realm="c"`},
			[]challenge{{"bearer", params{"realm": "a"}}},
		},
		{"a comma inside quotes", []string{`Bearer scope="repository:a:pull,push",realm="x"`}, []challenge{
			{"bearer", params{"scope": "repository:a:pull,push", "realm": "x"}},
		}},
		{"a parameter inside quotes is none", []string{`Bearer scope="realm=evil",realm="good"`}, []challenge{
			{"bearer", params{"scope": "realm=evil", "realm": "good"}},
		}},
		{
			"quotes inside quotes",
			[]string{`Bearer error_description="say \"x\", Basic realm=\"y\"",realm="z"`},
			[]challenge{
				{"bearer", params{"error_description": `say "x", Basic realm="y"`, "realm": "z"}},
			},
		},
		{"two in one field", []string{`Basic realm="a", Bearer realm="b",service="c"`}, []challenge{
			{"basic", params{"realm": "a"}}, {"bearer", params{"realm": "b", "service": "c"}},
		}},
		{"without parameters", []string{`Negotiate, Basic realm="a"`}, []challenge{
			{"negotiate", params{}}, {"basic", params{"realm": "a"}},
		}},
		{"token68", []string{`NTLM TlRMTVNT==, Bearer realm="b"`}, []challenge{
			{"ntlm", params{"tlrmtvnt": "="}}, {"bearer", params{"realm": "b"}},
		}},
		{"two fields", []string{`Basic realm="a"`, `Bearer realm="b"`}, []challenge{
			{"basic", params{"realm": "a"}}, {"bearer", params{"realm": "b"}},
		}},
		{"a field that begins with a parameter", []string{`Basic realm="a"`, `realm="b"`}, []challenge{
			{"basic", params{"realm": "a"}},
		}},
		{"nothing", nil, nil},
		{"empty", []string{""}, nil},
		{"rubbish", []string{`,,,=,"`}, nil},
		{"open quotes", []string{`Bearer realm="a`, `Basic realm="b"`}, []challenge{
			{"bearer", params{}}, {"basic", params{"realm": "b"}},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := parseChallenges(tt.in)
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v; want %v", got, tt.want)
			}
		})
	}
	for _, hostile := range []string{
		"Bearer " + strings.Repeat("a=1,", 1<<20),
		strings.Repeat("a ", 1<<20),
		strings.Repeat(`"`, 1<<20),
	} {
		got := parseChallenges([]string{hostile, hostile})
		if len(got) > maxChallenges {
			t.Errorf("%d challenges", len(got))
		}
		for _, c := range got {
			if len(c.params) > maxChallengeParams {
				t.Errorf("%d parameters", len(c.params))
			}
		}
	}
}

// What the challenge names is asked for, and never more than pull.
func TestPullScope(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]string{
		"repository:acme/app:pull":                                "repository:acme/app:pull",
		"repository:tenant/acme/app:pull":                         "repository:tenant/acme/app:pull",
		"repository(helm):acme/app:pull":                          "repository(helm):acme/app:pull",
		"repository:host:5000/app:pull":                           "repository:host:5000/app:pull",
		"repository:acme/app:pull,push":                           "repository:acme/app:pull",
		"repository:acme/app:push,pull":                           "repository:acme/app:pull",
		"repository:acme/app:*":                                   "repository:acme/app:pull",
		"repository:acme/app:pull repository:acme/base:pull,push": "repository:acme/app:pull repository:acme/base:pull",
		"repository:acme/app:pull registry:catalog:*":             "repository:acme/app:pull",
		"repository:acme/app:push":                                "",
		"registry:catalog:*":                                      "",
		"aws":                                                     "",
		"":                                                        "",
		"repository::pull":                                        "",
		"repository:pull":                                         "",
		"repositoryx:a:pull":                                      "",
		"repository:a:pull\x00":                                   "",
		"repository:" + strings.Repeat("a", maxScope) + ":pull": "",
	} {
		c := challenge{scheme: "bearer", params: map[string]string{"scope": scope}}
		if got := c.pullScope(); got != want {
			t.Errorf("%.80q: %q; want %q", scope, got, want)
		}
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

// A host that the registry redirects to gets nothing for a challenge: no
// credentials, no token made for the registry, and a request to a realm of its own
// domain only. A token for anybody it may give.
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
	challenges := map[string]struct {
		text  string
		realm string // that may be asked; empty: none
	}{
		"Basic":                         {`Basic realm="registry.example"`, ""},
		"Bearer of the registry":        {bearer("https://registry.example/token"), ""},
		"Bearer of the store":           {bearer("https://cdn.elsewhere.test/token"), "cdn.elsewhere.test"},
		"Bearer of a sibling":           {bearer("https://auth.elsewhere.test/token"), "auth.elsewhere.test"},
		"Bearer of another host":        {bearer("https://auth.other.test/token"), ""},
		"Bearer of a realm without TLS": {bearer("http://cdn.elsewhere.test/token"), ""},
		"Basic and Bearer in one, others": {
			`Basic realm="x", ` + bearer("https://auth.elsewhere.test/token"),
			"auth.elsewhere.test",
		},
	}
	for name, auth := range auths {
		for kind, c := range challenges {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				other := serve(t, "https", "auth.other.test", orToken(http.NotFound))
				realm := serve(t, "https", "auth.elsewhere.test", orToken(http.NotFound))
				store := serve(t, "https", "cdn.elsewhere.test", orToken(func(w http.ResponseWriter, q *http.Request) {
					if q.Header.Get("Authorization") == "Bearer token-"+mark {
						sendBlob(w, someBytes)
						return
					}
					wants(w, c.text)
				}))
				registry := serve(t, "https", "registry.example", orToken(func(w http.ResponseWriter, q *http.Request) {
					http.Redirect(w, q, store.url+"/data", http.StatusFound)
				}))
				_, err := blob(open(t, registry.url, auth(t), registry, store, realm, other), t.Context())

				for _, s := range []*site{registry, store, realm, other} {
					for _, got := range s.credentialsSeen() {
						if s != store || c.realm == "" || got != "Bearer token-"+mark {
							t.Errorf("%s got %q", s.name, got)
						}
					}
					if n := len(s.to("/token")); n > 0 && s.name != c.realm || n > 1 {
						t.Errorf("%s was asked for a token %d times", s.name, n)
					}
				}
				if c.realm != "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if n := len(registry.requests()) + len(store.requests()); n != 2 {
					t.Errorf("%d requests; want one, and one to where it is redirected", n)
				}
				wantUpstream(t, err, http.StatusBadGateway)
			})
		}
	}
	t.Run("a token that it does not take", func(t *testing.T) {
		t.Parallel()
		store := serve(t, "https", "cdn.elsewhere.test", orToken(func(w http.ResponseWriter, _ *http.Request) {
			wants(w, bearer("https://cdn.elsewhere.test/token"))
		}))
		registry := serve(t, "https", "registry.example", func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, store.url+"/data", http.StatusFound)
		})
		_, err := blob(open(t, registry.url, Auth{}, registry, store), t.Context())
		wantUpstream(t, err, http.StatusBadGateway)
		wantText(t, err, "the host it redirects to wants credentials")
		if n := len(store.requests()); n != 3 {
			t.Errorf("%d requests; want 3", n)
		}
	})
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
					wants(w, `Basic realm="give"`)
				case "Bearer":
					wants(w, bearer("https://cdn.other.test/token"))
				default:
					wants(w, bearer("https://registry.example/token"))
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
