package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

// changing is a source whose credentials a test changes, as a cache does when it
// is told that they were refused.
type changing struct {
	mu      sync.Mutex
	now     credentials.Credentials
	next    *credentials.Credentials // after a refusal
	err     error
	refused int
}

func (c *changing) Get(context.Context, policy.Repository) (credentials.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.err
}

func (c *changing) Configured() bool { return true }

func (c *changing) Refused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused++
	if c.next != nil {
		c.now, c.next = *c.next, nil
	}
}

func (c *changing) set(user string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.err = credentials.Credentials{Username: user, Password: testPassword}, err
}

// Harbor asks for a token of who shows nothing, and for a password of who shows a
// token that has ended.
func TestDeadToken(t *testing.T) {
	t.Parallel()
	for name, auth := range map[string]Auth{"anonymous": {}, "credentials": basicCredentials(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &tokenRegistry{}
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				shown := q.Header.Get("Authorization")
				r.mu.Lock()
				good := r.valid != "" && shown == "Bearer "+r.valid
				r.mu.Unlock()
				if q.URL.Path != "/token" && shown != "" && !good {
					wants(w, `Basic realm="harbor"`)
					return
				}
				r.ServeHTTP(w, q)
			})
			u := openBare(t, s.url, auth)
			mustManifest(t, u)

			for range 3 { // keys are rotated, and rotated again
				r.revoke()
				before := len(s.to("/v2/"))
				mustManifest(t, u)
				mustManifest(t, u)
				if n := len(s.to("/v2/")) - before; n != 4 {
					t.Errorf("%d requests; want the dead token, none, the new one, and that again", n)
				}
			}
			for _, q := range s.to("/v2/") {
				if strings.HasPrefix(q.header.Get("Authorization"), "Basic ") {
					t.Error("a password was shown where a token was enough")
				}
			}
		})
	}
}

// A registry that took a password may want a token later.
func TestBasicEnds(t *testing.T) {
	t.Parallel()
	basic := true
	r := &tokenRegistry{}
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		switch shown := q.Header.Get("Authorization"); {
		case !basic:
			r.ServeHTTP(w, q)
		case shown == basicHeaderOf(testUser, testPassword):
			sendManifest(w, someBytes)
		default:
			wants(w, `Basic realm="x"`)
		}
	})
	u := openBare(t, s.url, basicCredentials(t))
	mustManifest(t, u)
	mustManifest(t, u)
	basic = false
	mustManifest(t, u)
	mustManifest(t, u)

	all := s.to("/v2/")
	if got := all[len(all)-1].header.Get("Authorization"); !strings.HasPrefix(got, "Bearer ") {
		t.Errorf("the last request showed %.6q", got)
	}

	u.tokens.mu.Lock()
	left := time.Until(u.tokens.basicUntil)
	u.tokens.mu.Unlock()
	if left > 0 {
		t.Errorf("it is taken for one that wants a password for another %v", left)
	}
}

// A realm that refuses what it took for another repository says that there is no
// right to this one; its 403 says so at once.
func TestRealmRefusals(t *testing.T) {
	t.Parallel()
	other := policy.Repository{Host: "registry.example", Path: "acme/private"}
	for _, status := range []int{401, 403} {
		for _, proven := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, taken for another repository: %v", status, proven), func(t *testing.T) {
				t.Parallel()
				r := &tokenRegistry{}
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					if q.URL.Path == "/token" && strings.Contains(q.URL.Query().Get("scope"), "private") {
						w.WriteHeader(status)
						return
					}
					r.ServeHTTP(w, q)
				})
				u := openBare(t, s.url, basicCredentials(t))
				if proven {
					mustManifest(t, u)
				}
				_, err := u.Manifest(t.Context(), other.Tagged("v1"), plenty)
				want := http.StatusForbidden
				if status == 401 && !proven {
					want = http.StatusUnauthorized
				}
				wantUpstream(t, err, want)
			})
		}
	}
	t.Run("revoked", func(t *testing.T) { // good for this very repository before
		t.Parallel()
		gone := false
		r := &tokenRegistry{}
		s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/token" && gone {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			r.ServeHTTP(w, q)
		})
		u := openBare(t, s.url, basicCredentials(t))
		mustManifest(t, u)
		gone = true
		r.revoke()
		wantUpstream(t, manifestOf(t, u), http.StatusUnauthorized)
		_, err := u.Manifest(t.Context(), other.Tagged("v1"), plenty)
		wantUpstream(t, err, http.StatusUnauthorized)
	})
}

// Amazon refuses an expired password with 403, others with 401: where the source
// has a newer one, it is shown once.
func TestExpiredPassword(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403} {
		for _, renewed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d, renewed %v", status, renewed), func(t *testing.T) {
				t.Parallel()
				good := "first"
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					switch shown := q.Header.Get("Authorization"); {
					case shown == basicHeaderOf(good, testPassword):
						sendManifest(w, someBytes)
					case shown != "" && status == 403:
						w.WriteHeader(http.StatusForbidden)
					default:
						wants(w, `Basic realm="https://1.dkr.ecr.x/",service="ecr.amazonaws.com"`)
					}
				})
				source := &changing{}
				source.set("first", nil)
				u := openBare(t, s.url, Auth{Source: source})
				mustManifest(t, u)

				good = "second"
				if renewed {
					source.next = &credentials.Credentials{Username: "second", Password: testPassword}
				}
				before := len(s.requests())
				err := manifestOf(t, u)
				asked := len(s.requests()) - before
				if renewed && (err != nil || asked != 2) {
					t.Errorf("%v after %d requests", err, asked)
				}
				if !renewed {
					wantUpstream(t, err, status)
					if asked != 1 {
						t.Errorf("the same password was shown %d times", asked)
					}
				}
				if source.refused == 0 {
					t.Error("the source was not told")
				}
			})
		}
	}
}

// A 401 without a challenge is met by the one of /v2/.
func TestChallengeOfFront(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "/hub", "/api/docker/x/v2/"} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			front := "/v2/"
			if strings.Contains(base, "v2") {
				front = base
			}
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				switch {
				case q.URL.Path == "/token":
					_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
				case q.Header.Get("Authorization") == "Bearer token-"+mark:
					sendManifest(w, someBytes)
				case q.URL.Path == front:
					wants(w, bearer("http://"+q.Host+"/token"))
				default:
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			u := openBare(t, s.url+base, basicCredentials(t))
			mustManifest(t, u)
			mustManifest(t, u)
			asked := 0
			for _, q := range s.requests() {
				if q.uri == front {
					asked++
					if q.header.Get("Authorization") != "" {
						t.Error("credentials were shown to /v2/")
					}
				}
			}
			if asked != 1 {
				t.Errorf("/v2/ was asked %d times", asked)
			}
		})
	}
}

// A segment v2 in the path of url says where the API begins.
func TestAPIInURL(t *testing.T) {
	t.Parallel()
	for base, want := range map[string][2]string{
		"":                                       {"/v2/acme/app/", "acme/app"},
		"/":                                      {"/v2/acme/app/", "acme/app"},
		"/hub":                                   {"/v2/hub/acme/app/", "hub/acme/app"},
		"/v2/":                                   {"/v2/acme/app/", "acme/app"},
		"/v2/hub":                                {"/v2/hub/acme/app/", "hub/acme/app"},
		"/artifactory/api/docker/docker-hub/v2/": {"/artifactory/api/docker/docker-hub/v2/acme/app/", "acme/app"},
		"/artifactory/api/docker/docker-hub/v2":  {"/artifactory/api/docker/docker-hub/v2/acme/app/", "acme/app"},
		"/harbor/v2/proxy/hub/":                  {"/harbor/v2/proxy/hub/acme/app/", "proxy/hub/acme/app"},
		"/v2x/hub":                               {"/v2/v2x/hub/acme/app/", "v2x/hub/acme/app"},
	} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			r := &tokenRegistry{}
			s := serve(t, "http", "", r.ServeHTTP)
			u := openBare(t, s.url+base, Auth{})
			mustManifest(t, u)
			if got := s.requests()[0].uri; got != want[0]+"manifests/latest" {
				t.Errorf("asked for %s; want %s", got, want[0])
			}
			at, err := url.ParseRequestURI(s.to("/token")[0].uri)
			if err != nil {
				t.Fatal(err)
			}
			if got := at.Query().Get("scope"); got != "repository:"+want[1]+":pull" {
				t.Errorf("scope %s", got)
			}
		})
	}
}

// clock is an upstream's, which a test puts forward.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// What a 429 asks for is obeyed by all that is asked of the registry meanwhile,
// within bounds.
func TestPause(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for retryAfter, want := range map[string]time.Duration{
		"60":                   time.Minute,
		"0":                    0,
		"":                     0,
		"soon":                 0,
		"-5":                   0,
		"99999999999999999999": maxPause,
		"86400":                maxPause,
		"18446744073709551615": maxPause,
		start.Add(30 * time.Second).Format(http.TimeFormat): 30 * time.Second,
		start.Add(-time.Hour).Format(http.TimeFormat):       0,
		"Wed, 21 Oct 2099 07:28:00 GMT":                     maxPause,
	} {
		t.Run(retryAfter, func(t *testing.T) {
			t.Parallel()
			busy := true
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if busy {
					w.Header().Set("Retry-After", retryAfter)
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
				sendManifest(w, someBytes)
			})
			c := &clock{at: start}
			u := openBare(t, s.url, Auth{})
			u.now = c.now
			wantUpstream(t, manifestOf(t, u), http.StatusTooManyRequests)
			busy = false
			if want == 0 {
				mustManifest(t, u)
				return
			}

			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					_, err := u.Blob(t.Context(), repo, someHash, plenty)
					e := wantUpstream(t, err, http.StatusTooManyRequests)
					if d := waitOf(e.RetryAfter, start); d < want || d > want+time.Second {
						t.Errorf("Retry-After %s; want %v", e.RetryAfter, want)
					}
					_, _, err = u.Resolve(t.Context(), repo, "v1")
					wantUpstream(t, err, http.StatusTooManyRequests)
				})
			}
			all.Wait()
			if n := len(s.requests()); n != 1 {
				t.Errorf("%d requests during the pause", n)
			}
			c.advance(want)
			mustManifest(t, u)
		})
	}
}

// What is limited apart pauses apart.
func TestPauseLanes(t *testing.T) {
	t.Parallel()
	limited := func(path string) http.HandlerFunc {
		return func(w http.ResponseWriter, q *http.Request) {
			switch {
			case strings.Contains(q.URL.Path, path):
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusTooManyRequests)
			case q.URL.Path == "/token":
				_, _ = w.Write([]byte(`{"token":"token-` + mark + `"}`))
			case strings.Contains(q.URL.Path, "/referrers/"):
				sendIndex(w, "")
			case path == "/token" && strings.Contains(q.URL.Path, "/manifests/"):
				wants(w, bearer("http://"+q.Host+"/token"))
			default:
				sendManifest(w, someBytes)
			}
		}
	}
	t.Run("referrers", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "http", "", limited("/acme/app/referrers/"))
		u := openBare(t, s.url, Auth{})
		for range 3 {
			_, err := u.Referrers(t.Context(), repo, someHash, plenty)
			wantUpstream(t, err, http.StatusTooManyRequests)
		}
		mustManifest(t, u)
		other := policy.Repository{Host: repo.Host, Path: "acme/other"}
		if _, err := u.Referrers(t.Context(), other, someHash, plenty); err != nil {
			t.Error(err)
		}
		if n := len(s.requests()); n != 3 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("tokens", func(t *testing.T) {
		t.Parallel()
		s := serve(t, "http", "", limited("/token"))
		u := openBare(t, s.url, Auth{})
		for range 3 {
			wantUpstream(t, manifestOf(t, u), http.StatusTooManyRequests)
		}
		if n := len(s.to("/token")); n != 1 {
			t.Errorf("the realm was asked %d times", n)
		}
		if _, err := u.Blob(t.Context(), repo, someHash, plenty); err != nil { // which wants no token
			t.Error(err)
		}
	})
	t.Run("a store", func(t *testing.T) { // another host's limit is not the registry's
		t.Parallel()
		store := serve(t, "http", "cdn.elsewhere.test", limited("/"))
		s := serve(t, "http", "registry.example", func(w http.ResponseWriter, q *http.Request) {
			if strings.Contains(q.URL.Path, "/blobs/") {
				http.Redirect(w, q, store.url+"/x", http.StatusTemporaryRedirect)
				return
			}
			sendManifest(w, someBytes)
		})
		u := open(t, s.url, Auth{}, s, store)
		_, err := blob(u, t.Context())
		wantUpstream(t, err, http.StatusTooManyRequests)
		mustManifest(t, u)
	})
}

// A token belongs to the credentials that it was given for.
func TestTokenPerCredentials(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	source := &changing{}
	source.set("first", nil)
	u := openBare(t, s.url, Auth{Source: source})
	mustManifest(t, u)
	mustManifest(t, u)
	source.set("second", nil)
	mustManifest(t, u)

	asked := s.to("/token")
	if len(asked) != 2 || asked[1].header.Get("Authorization") != basicHeaderOf("second", testPassword) {
		t.Fatalf("%d token requests", len(asked))
	}
	for key := range u.tokens.byKey {
		if strings.Contains(key, mark) || strings.Contains(key, "second") {
			t.Error("a key shows credentials")
		}
	}

	// A token outlives credentials that cannot be read for the moment.
	source.set("", fmt.Errorf("the helper is away"))
	mustManifest(t, u)
	r.revoke()
	wantUpstream(t, manifestOf(t, u), http.StatusServiceUnavailable)
}

// Google's realm and Artifactory's take an identity token as a password only.
func TestIdentityTokenByGet(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 404, 405} {
		for user, shown := range map[string]string{"": "<token>", "oauth2accesstoken": "oauth2accesstoken"} {
			t.Run(fmt.Sprintf("%d %s", status, user), func(t *testing.T) {
				t.Parallel()
				r, want := &tokenRegistry{}, basicHeaderOf(shown, "identity-"+mark)
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					switch {
					case q.URL.Path == "/token" && q.Method == http.MethodPost:
						w.WriteHeader(status)
					case q.URL.Path == "/token" && q.Header.Get("Authorization") != want:
						w.WriteHeader(http.StatusUnauthorized)
					default:
						r.ServeHTTP(w, q)
					}
				})
				u := openBare(t, s.url, Auth{Source: &changing{now: credentials.Credentials{
					Username:      user,
					IdentityToken: "identity-" + mark,
				}}})
				mustManifest(t, u)
				for _, q := range s.requests() {
					if strings.Contains(q.uri, mark) {
						t.Errorf("the token is in a URL: %s", q.uri)
					}
				}
			})
		}
	}
	for _, status := range []int{403, 429, 500} {
		t.Run(fmt.Sprintf("%d is final", status), func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/token" {
					w.WriteHeader(status)
					return
				}
				wants(w, bearer("http://"+q.Host+"/token"))
			})
			u := openBare(
				t,
				s.url,
				Auth{Source: &changing{now: credentials.Credentials{IdentityToken: "identity-" + mark}}},
			)
			noSecret(t, manifestOf(t, u))
			if n := len(s.to("/token")); n != 1 {
				t.Errorf("%d token requests", n)
			}
		})
	}
}
