package upstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/verify/oci"
)

// realmLab is a registry that names a realm on another site.
func realmLab(t *testing.T, scheme, registryName, realmName string) (registry, realm *site, r *tokenRegistry) {
	t.Helper()
	r = &tokenRegistry{}
	realm = serve(t, scheme, realmName, func(w http.ResponseWriter, _ *http.Request) { r.issue(w) })
	registry = serve(t, scheme, registryName, r.ServeHTTP)
	r.realm = realm.url + "/auth/token"
	return registry, realm, r
}

// CVE-2026-33540 (GHSA-3p65-76g6-3w7r): a registry's challenge alone must not
// send the credentials to another host.
func TestCredentialsStayHomeWhenTheRealmIsElsewhere(t *testing.T) {
	t.Parallel()
	auths := map[string]func(t *testing.T, host string) Auth{
		"basic": func(t *testing.T, _ string) Auth { return basicCredentials(t) },
		"docker config": func(t *testing.T, host string) Auth {
			return dockerFrom(t, host, dockerConfig(t, host, testUser, testPassword))
		},
		"identity token": func(t *testing.T, host string) Auth {
			config := fmt.Sprintf(`{"auths":{%q:{"identitytoken":"identity-%s"}}}`, host, mark)
			return dockerFrom(t, host, file(t, config))
		},
		"another host listed": func(t *testing.T, _ string) Auth {
			a := basicCredentials(t)
			a.Realms = []string{"auth.trusted.example", "evil.example.trusted.example", "example", ".example", "*", ""}
			return a
		},
	}
	for name, auth := range auths {
		for _, scheme := range []string{"https", "http"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				t.Parallel()
				registry, thief, _ := realmLab(t, scheme, "registry.example", "auth.evil.example")
				u := open(t, registry.url, auth(t, registry.name), registry, thief)
				err := manifestOf(t, u)
				e := wantUpstream(t, err, http.StatusBadGateway)
				wantText(t, err, "auth.evil.example") // the admin must see which host to list
				if !e.HadAuth {
					t.Error("HadAuth is not set")
				}
				if n := len(thief.requests()); n != 0 {
					t.Errorf("the foreign realm got %d requests, with %q", n, thief.credentialsSeen())
				}
				if got := registry.credentialsSeen(); len(got) != 0 {
					t.Errorf("the registry got %q", got)
				}
			})
		}
	}
}

func TestCredentialsGoToAListedRealm(t *testing.T) {
	t.Parallel()
	for _, listed := range []string{"auth.elsewhere.test", "AUTH.Elsewhere.Test"} {
		registry, realm, _ := realmLab(t, "https", "registry.example", "auth.elsewhere.test")
		auth := basicCredentials(t)
		auth.Realms = []string{"unrelated.test", listed}
		mustManifest(t, open(t, registry.url, auth, registry, realm))
		if got := realm.credentialsSeen(); !slices.Equal(got, []string{basicHeaderOf(testUser, testPassword)}) {
			t.Errorf("the realm got %q", got)
		}
		for _, got := range registry.credentialsSeen() {
			if strings.HasPrefix(got, "Basic") {
				t.Error("the registry got the password; the token is enough")
			}
		}
	}
}

func TestCredentialsGoToARealmOfTheSameDomain(t *testing.T) {
	t.Parallel()
	registry, realm, _ := realmLab(t, "https", "registry.acme.co.uk", "auth.acme.co.uk")
	mustManifest(t, open(t, registry.url, basicCredentials(t), registry, realm))
	if got := realm.credentialsSeen(); len(got) != 1 {
		t.Errorf("the realm got %q", got)
	}
}

// Without credentials there is nothing to steal, and public registries do keep
// their realm elsewhere.
func TestAnonymousTokenFromARealmElsewhere(t *testing.T) {
	t.Parallel()
	registry, realm, r := realmLab(t, "https", "registry.example", "auth.elsewhere.test")
	mustManifest(t, open(t, registry.url, Auth{}, registry, realm))
	if got := realm.credentialsSeen(); len(got) != 0 {
		t.Errorf("the realm got %q", got)
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d tokens", n)
	}

	// A Docker config that holds nothing for this registry is the same.
	empty := file(
		t,
		`{"auths":{"other.example":{"auth":"`+base64.StdEncoding.EncodeToString([]byte("a:"+testPassword))+`"}}}`,
	)
	registry, realm, _ = realmLab(t, "https", "registry.example", "auth.elsewhere.test")
	mustManifest(t, open(t, registry.url, dockerFrom(t, registry.name, empty), registry, realm))
	if got := realm.credentialsSeen(); len(got) != 0 {
		t.Errorf("the realm got %q", got)
	}
}

func TestRealmWithoutTLSIsRefusedByATLSUpstream(t *testing.T) {
	t.Parallel()
	listed := basicCredentials(t)
	listed.Realms = []string{"registry.example"}
	for _, auth := range []Auth{{}, basicCredentials(t), listed} {
		plain := serve(t, "http", "registry.example", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"token":"abc"}`))
		})
		registry := serve(t, "https", "registry.example", func(w http.ResponseWriter, _ *http.Request) {
			challenge(w, bearer("http://registry.example/token"))
		})
		err := manifestOf(t, open(t, registry.url, auth, registry, plain))
		wantUpstream(t, err, http.StatusBadGateway)
		if n := len(plain.requests()); n != 0 {
			t.Errorf("%d requests left without TLS", n)
		}
	}
}

// A host that is not the registry, reached by a redirect, can answer 401 with
// a challenge too. It must not get, or move, the credentials.
func TestChallengeOfARedirectTargetGetsNoCredentials(t *testing.T) {
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

func TestMayGoTo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		base, realm string
		realms      []string
		want        bool
	}{
		// the registry's own host
		{"https://ghcr.io", "https://ghcr.io/token", nil, true},
		{"https://ghcr.io", "https://GHCR.IO/token", nil, true},
		{"https://GHCR.io", "https://ghcr.io/token", nil, true},
		{"https://ghcr.io", "https://ghcr.io:443/token", nil, true},
		{"https://reg.example:5000", "https://reg.example:5001/token", nil, true}, // one machine, one owner
		{"http://reg.example:5000", "http://reg.example:5001/token", nil, true},
		{"http://registry:5000", "http://registry:5001/token", nil, true}, // a name of one label
		// scheme
		{"https://ghcr.io", "http://ghcr.io/token", nil, false},
		{"http://reg.example", "https://reg.example/token", nil, true},
		{"https://ghcr.io", "http://auth.test/token", []string{"auth.test"}, false},
		{"https://ghcr.io", "ftp://ghcr.io/token", nil, false},
		// the same registrable domain
		{"https://registry-1.docker.io", "https://auth.docker.io/token", nil, true},
		{"https://registry-1.docker.io", "https://docker.io/token", nil, true},
		{"https://registry.gitlab.com", "https://gitlab.com/jwt/auth", nil, true},
		{"https://gitlab.com", "https://a.b.c.gitlab.com/jwt/auth", nil, true},
		{"https://registry.ACME.example", "https://Auth.acme.EXAMPLE/token", nil, true},
		{"https://registry.acme.co.uk", "https://auth.acme.co.uk/token", nil, true},
		// public suffixes are nobody's
		{"https://registry.acme.co.uk", "https://auth.evil.co.uk/token", nil, false},
		{"https://acme.co.uk", "https://co.uk/token", nil, false},
		{"https://acme.github.io", "https://evil.github.io/token", nil, false},
		{"https://acme.com", "https://evil.com/token", nil, false},
		{"https://acme.internal", "https://evil.internal/token", nil, false},
		{"http://registry", "http://auth/token", nil, false},
		// look-alikes
		{"https://ghcr.io", "https://evil-ghcr.io/token", nil, false},
		{"https://ghcr.io", "https://ghcr.io.evil.example/token", nil, false},
		{"https://ghcr.io", "https://ghcr.io.", nil, false},
		{"https://ghcr.io", "https://ghcr.iо/token", nil, false}, // Cyrillic
		{"https://ghcr.io", "https://ghcr.io%2eevil.example/token", nil, false},
		{"https://azurecr.io", "https://azurecr.io.evil.example/token", nil, false},
		{"https://ghcr.io", "https://evil.example/ghcr.io/token", nil, false},
		{"https://ghcr.io", "https://evil.example/?ghcr.io", nil, false},
		{"https://ghcr.io", "https://.ghcr.io/token", nil, false},
		// addresses have no domain
		{"https://10.0.0.5", "https://10.0.0.5/token", nil, true},
		{"https://10.0.0.5:5000", "https://10.0.0.5:5001/token", nil, true},
		{"https://10.0.0.5", "https://10.9.0.5/token", nil, false}, // ends alike
		{"https://10.0.0.5", "https://10.0.0.6/token", nil, false},
		{"https://10.0.0.5", "https://evil.0.5/token", nil, false},
		{"https://[2001:db8::1]", "https://[2001:db8::1]:8443/token", nil, true},
		{"https://[2001:db8::1]", "https://[2001:db8::2]/token", nil, false},
		{"https://[::ffff:10.0.0.5]", "https://[::ffff:10.9.0.5]/token", nil, false},
		{"http://127.0.0.1:5000", "http://localhost:5000/token", nil, false},
		// listed
		{"https://ghcr.io", "https://auth.test/token", []string{"auth.test"}, true},
		{"https://ghcr.io", "https://AUTH.test/token", []string{"x.test", "Auth.Test"}, true},
		{"https://ghcr.io", "https://auth.test:8443/token", []string{"auth.test:8443"}, true},
		{"https://ghcr.io", "https://auth.test:8444/token", []string{"auth.test:8443"}, false},
		{"https://ghcr.io", "https://auth.test/token", []string{"auth.test:8443"}, false},
		{"https://ghcr.io", "https://auth.test:8443/token", []string{"auth.test"}, true},
		{"https://ghcr.io", "https://sub.auth.test/token", []string{"auth.test"}, false},
		{"https://ghcr.io", "https://auth.test/token", []string{""}, false},
		{"https://ghcr.io", "https://auth.test/token", []string{"*"}, false},
		{"https://ghcr.io", "https://10.1.2.3/token", []string{"10.1.2.3"}, true},
	}
	for _, tt := range tests {
		base, err := url.Parse(tt.base)
		if err != nil {
			t.Fatal(err)
		}
		realm, err := url.Parse(tt.realm)
		if err != nil { // then no request is made of it either
			if tt.want {
				t.Error(err)
			}
			continue
		}
		if got := (realms{base, tt.realms}).allow(realm); got != tt.want {
			t.Errorf("from %s to %s, listed %q: %v; want %v", tt.base, tt.realm, tt.realms, got, tt.want)
		}
	}
}

// CVE-2025-27403: on a domain where every customer has a name of his own, the
// neighbour is a stranger.
func TestMayGoToNoNeighbourOnASharedDomain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ base, realm string }{
		{"https://acme.azurecr.io", "https://evil.azurecr.io/oauth2/token"},
		{"https://acme.azurecr.io", "https://EVIL.AzureCR.io/oauth2/token"},
		{"https://acme.jfrog.io", "https://evil.jfrog.io/v2/token"},
		{"https://1.dkr.ecr.us-east-1.amazonaws.com", "https://2.dkr.ecr.us-east-1.amazonaws.com/"},
		{"https://1.dkr.ecr.us-east-1.amazonaws.com", "https://evil.amazonaws.com/"},
		{"http://registry.team-a.svc.cluster.local", "http://x.team-b.svc.cluster.local/token"},
		{"http://registry.team-a.svc", "http://x.team-b.svc/token"},
		{"https://registry.acme.internal", "https://evil.acme.internal/token"},
	} {
		base, err := url.Parse(tt.base)
		if err != nil {
			t.Fatal(err)
		}
		realm, err := url.Parse(tt.realm)
		if err != nil {
			t.Fatal(err)
		}
		r := realms{base: base}
		if r.allow(realm) {
			t.Errorf("credentials for %s may go to %s", tt.base, tt.realm)
		}
		if !r.allow(base) {
			t.Errorf("credentials for %s may not go to itself", tt.base)
		}
		r.listed = []string{realm.Host}
		if !r.allow(realm) {
			t.Errorf("%s is listed", tt.realm)
		}
	}
}

func dockerConfig(t *testing.T, host, user, password string) string {
	t.Helper()
	return file(
		t,
		fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(user+":"+password))),
	)
}

func TestDockerConfigPassword(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	const awkward = "with:colons and ü-" + mark
	u := openBare(t, s.url, dockerFrom(t, s.name, dockerConfig(t, s.name, testUser, awkward)))
	mustManifest(t, u)
	asked := s.to("/token")
	if len(asked) != 1 || asked[0].header.Get("Authorization") != basicHeaderOf(testUser, awkward) {
		t.Errorf("the realm saw %+v", asked)
	}
}

func TestDockerHubEntry(t *testing.T) {
	t.Parallel()
	name := dockerConfig(t, "https://index.docker.io/v1/", testUser, testPassword)
	tests := []struct {
		name string
		url  *url.URL
		user string
	}{
		{"Docker Hub", nil, testUser},
		{"a mirror, which is another party", &url.URL{Scheme: "https", Host: "mirror.example"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, err := Config{Host: "docker.io", URL: tt.url}.Address()
			if err != nil {
				t.Fatal(err)
			}
			registry := credentials.Registry{Host: "docker.io", Address: address.Host}
			source, err := credentials.NewDockerConfig(name, registry)
			if err != nil {
				t.Fatal(err)
			}
			got, err := source.Get(t.Context(), repo)
			if err != nil || got.Username != tt.user || (got.Password == testPassword) != (tt.user != "") {
				t.Errorf("user %q, %v; want %q", got.Username, err, tt.user)
			}
		})
	}
}

// What `docker login` leaves for some registries is a refresh token; it goes
// in a POST's body, never in a URL.
func TestDockerConfigIdentityTokenIsPosted(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{answer: func(n int) string { return fmt.Sprintf(`{"access_token":"token-%s-%d"}`, mark, n) }}
	s := serve(t, "http", "", r.ServeHTTP)
	config := file(t, fmt.Sprintf(`{"auths":{%q:{"auth":%q,"identitytoken":"identity-%s"}}}`, s.name,
		base64.StdEncoding.EncodeToString([]byte("00000000-0000-0000-0000-000000000000:")), mark))
	u := openBare(t, s.url, dockerFrom(t, s.name, config))
	mustManifest(t, u)
	asked := s.to("/token")
	if len(asked) != 1 {
		t.Fatalf("%d token requests", len(asked))
	}
	q := asked[0]
	if q.method != http.MethodPost || strings.Contains(q.uri, mark) {
		t.Errorf("%s %s", q.method, q.uri)
	}
	want := url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {"identity-" + mark},
		"service":       {"registry.example"},
		"scope":         {"repository:acme/app:pull"},
		"client_id":     {"pullgate"},
	}
	if fmt.Sprint(q.form) != fmt.Sprint(want) {
		t.Errorf("form %v; want %v", q.form, want)
	}
	if got := q.header.Get("Content-Type"); got != "application/x-www-form-urlencoded" {
		t.Errorf("Content-Type %q", got)
	}
	if got := q.header.Get("Authorization"); got != "" {
		t.Errorf("Authorization %q", got)
	}
}

// An identity token is nothing to show for a Basic challenge.
func TestIdentityTokenIsNotShownAsBasic(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { challenge(w, `Basic realm="x"`) })
	config := file(t, fmt.Sprintf(`{"auths":{%q:{"identitytoken":"identity-%s"}}}`, s.name, mark))
	u := openBare(t, s.url, dockerFrom(t, s.name, config))
	e := wantUpstream(t, manifestOf(t, u), http.StatusUnauthorized)
	if !e.HadAuth {
		t.Error("HadAuth is not set")
	}
	if got := s.credentialsSeen(); len(got) != 0 {
		t.Errorf("shown: %q", got)
	}
}

// Rotation writes a new file and restarts nothing.
func TestRotatedPasswordIsUsedWithoutARestart(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Basic", "Bearer"} {
		for _, from := range []string{"password file", "docker config"} {
			t.Run(kind+", "+from, func(t *testing.T) {
				t.Parallel()
				good := "first-" + mark
				r := &tokenRegistry{}
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					ok := q.Header.Get("Authorization") == basicHeaderOf(testUser, good)
					switch {
					case kind == "Basic" && ok:
						sendManifest(w, someBytes)
					case kind == "Basic":
						challenge(w, `Basic realm="x"`)
					case q.URL.Path == "/token" && !ok:
						w.WriteHeader(http.StatusUnauthorized)
					default:
						r.ServeHTTP(w, q)
					}
				})
				text := func(p string) string { return p + "\r\n" }
				name := file(t, good)
				auth := basicFrom(t, name)
				if from == "docker config" {
					text = func(p string) string {
						return fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, s.name, testUser, p)
					}
					name = file(t, text(good))
					auth = dockerFrom(t, s.name, name)
				}
				u := openBare(t, s.url, auth)
				mustManifest(t, u)

				good = "second-" + mark // no request is under way
				r.revoke()
				before := len(s.requests())
				wantUpstream(t, manifestOf(t, u), http.StatusUnauthorized)
				if n := len(s.requests()) - before; kind == "Basic" && n != 1 {
					t.Errorf("a refused password was shown %d times; each may count towards a lock-out", n)
				}
				overwrite(t, name, text(good))
				mustManifest(t, u)

				// A file that has gone is "could not", not "anonymous".
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
				r.revoke()
				wantUpstream(t, manifestOf(t, u), http.StatusServiceUnavailable)
			})
		}
	}
}

// Printing an upstream must not print what is in its URL.
func TestStringHidesAPasswordInTheURL(t *testing.T) {
	t.Parallel()
	at, err := url.Parse("https://robot:" + testPassword + "@registry.example/base")
	if err != nil {
		t.Fatal(err)
	}
	u, err := New(Config{Host: "registry.example", URL: at})
	if err != nil {
		noSecret(t, err)
		return
	}
	if strings.Contains(u.String(), mark) {
		t.Error(u.String())
	}
	if got := u.at(repo, "manifests", "latest").String(); strings.Contains(got, mark) {
		t.Error(got)
	}
}

// Every way to fail, with a password and a token in play: no text shows them.
func TestNoErrorShowsASecret(t *testing.T) {
	t.Parallel()
	secretBlob := "/blob?X-Signature=" + mark
	failures := map[string]http.HandlerFunc{
		"connection cut": func(w http.ResponseWriter, _ *http.Request) { cut(w, "") },
		"status 500":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = io.WriteString(w, mark) },
		"status 404":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); _, _ = io.WriteString(w, mark) },
		"other bytes":    func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, []byte(mark)) },
		"redirect to cut": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "/cut"+secretBlob, http.StatusTemporaryRedirect)
		},
		"redirect to dead": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "http://127.0.0.1:1"+secretBlob, http.StatusTemporaryRedirect)
		},
		"redirect loop": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, q.URL.Path+"?s="+mark, http.StatusTemporaryRedirect)
		},
		"redirect with userinfo": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, "http://u:"+testPassword+"@127.0.0.1:1"+secretBlob, http.StatusTemporaryRedirect)
		},
		"redirect to no URL": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://%zz/"+mark)
			w.WriteHeader(307)
		},
		"redirect to another scheme": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "gopher://host"+secretBlob)
			w.WriteHeader(307)
		},
		"401 again":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		"cut while read": func(w http.ResponseWriter, _ *http.Request) { cut(w, `{"part":`) },
	}
	for name, failure := range failures {
		for _, kind := range []string{"Basic", "Bearer"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					switch {
					case strings.HasPrefix(q.URL.Path, "/cut"):
						cut(w, "")
					case q.URL.Path == "/token":
						_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
					case q.Header.Get("Authorization") != "":
						failure(w, q)
					case kind == "Basic":
						challenge(w, `Basic realm="x"`)
					default:
						challenge(w, bearer("http://"+q.Host+"/token"))
					}
				})
				u := openBare(t, s.url, basicCredentials(t))
				_, errManifest := u.Manifest(t.Context(), repo.At(someHash), plenty)
				_, _, errResolve := u.Resolve(t.Context(), repo, "latest")
				_, errBlob := u.Blob(t.Context(), repo, someHash, plenty)
				_, errReferrers := u.Referrers(t.Context(), repo, someHash, plenty)
				_, _, errTags := u.Tags(t.Context(), repo, "", "", plenty)
				if errManifest == nil || errBlob == nil {
					t.Errorf("a failure went unnoticed: %v, %v", errManifest, errBlob)
				}
				for _, err := range []error{errManifest, errResolve, errBlob, errReferrers, errTags} {
					noSecret(t, err)
					var e *oci.UpstreamError
					if err != nil && !errors.As(err, &e) {
						t.Errorf("%v is no UpstreamError", err)
					}
				}
			})
		}
	}
}

// cut ends a connection in the middle of an answer.
func cut(w http.ResponseWriter, after string) {
	if after != "" {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, after)
		_ = http.NewResponseController(w).Flush()
	}
	panic(http.ErrAbortHandler)
}
