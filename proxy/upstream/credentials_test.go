package upstream

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

func dockerConfig(t *testing.T, host, user, password string) string {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))

	return file(t, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth))
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

// What `docker login` stores for some registries is a refresh token. It is sent in
// the body of a POST, never in a URL.
func TestIdentityToken(t *testing.T) {
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

// An identity token does not meet a Basic challenge.
func TestIdentityTokenForBasic(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { wants(w, `Basic realm="x"`) })
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

// A rotated password is used without a reload.
func TestPasswordRotation(t *testing.T) {
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
						wants(w, `Basic realm="x"`)
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

				// A missing file is an error, not the absence of credentials.
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
				r.revoke()
				wantUpstream(t, manifestOf(t, u), http.StatusServiceUnavailable)
			})
		}
	}
}

// A printed upstream does not show the password in its URL.
func TestPasswordInURL(t *testing.T) {
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
