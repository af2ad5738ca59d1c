package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// The scope is the challenge's where it names what to pull from, and otherwise
// this repository's. It is never more than pull: a registry cannot make the gate
// ask for the right to push.
func TestTokenScope(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]string{
		"":                                      "repository:acme/app:pull",
		"aws":                                   "repository:acme/app:pull",
		"repository:acme/app:push":              "repository:acme/app:pull",
		"repository:acme/app:pull,push":         "repository:acme/app:pull",
		"repository:tenant/acme/app:pull":       "repository:tenant/acme/app:pull",
		"repository(helm):acme/app:pull":        "repository(helm):acme/app:pull",
		"repository:a:pull repository:b:pull,*": "repository:a:pull repository:b:pull",
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(scheme+" "+scope, func(t *testing.T) {
				t.Parallel()
				r := &tokenRegistry{scope: scope}
				s := serve(t, scheme, "", r.ServeHTTP)
				u := openBare(t, s.url, basicCredentials(t))
				mustManifest(t, u)
				asked := s.to("/token")
				if len(asked) != 1 {
					t.Fatalf("%d token requests; want 1", len(asked))
				}
				at, err := url.ParseRequestURI(asked[0].uri)
				if err != nil {
					t.Fatal(err)
				}
				if got := at.Query()["scope"]; strings.Join(got, " ") != want {
					t.Errorf("scope %q; want %q", got, want)
				}
				if got := at.Query()["service"]; len(got) != 1 || got[0] != "registry.example" {
					t.Errorf("service %q", got)
				}
				if got := asked[0].header.Get("Authorization"); got != basicHeaderOf(testUser, testPassword) {
					t.Errorf("Authorization %q", got)
				}
				if asked[0].method != http.MethodGet {
					t.Errorf("method %s", asked[0].method)
				}
			})
		}
	}
}

// A scope in the realm's own query is replaced; its other parameters are kept.
func TestScopeInRealm(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	r.realm = s.url + "/token?scope=registry:catalog:*&scope=repository:x:push&tenant=7"
	mustManifest(t, openBare(t, s.url, Auth{}))
	at, err := url.ParseRequestURI(s.to("/token")[0].uri)
	if err != nil {
		t.Fatal(err)
	}
	if got := at.Query()["scope"]; len(got) != 1 || got[0] != "repository:acme/app:pull" {
		t.Errorf("scope %q", got)
	}
	if at.Query().Get("tenant") != "7" {
		t.Errorf("the realm's own query is gone: %s", at.RawQuery)
	}
}

func TestScopeUnderBasePath(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"/hub-proxy/team", "/hub-proxy/team/"} {
		t.Run(base, func(t *testing.T) {
			r := &tokenRegistry{}
			s := serve(t, "http", "", r.ServeHTTP)
			mustManifest(t, openBare(t, s.url+base, Auth{}))
			at, err := url.ParseRequestURI(s.to("/token")[0].uri)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := at.Query().Get("scope"), "repository:hub-proxy/team/acme/app:pull"; got != want {
				t.Errorf("scope %q; want %q", got, want)
			}
		})
	}
}

func TestTokenReuse(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	u := openBare(t, s.url, Auth{})
	for range 3 {
		mustManifest(t, u)
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d tokens were fetched; want 1", n)
	}
	if n := len(s.to("/v2/")); n != 4 { // one 401, then three answers
		t.Errorf("%d requests; want 4", n)
	}
}

// One repository's token says nothing about another's.
func TestTokenPerRepository(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	u := openBare(t, s.url, Auth{})
	mustManifest(t, u)
	other := policy.Repository{Host: "registry.example", Path: "acme/other"}
	if _, err := u.Manifest(t.Context(), other.Tagged("latest"), plenty); err != nil {
		t.Fatal(err)
	}
	first := s.to("/v2/acme/other/")[0]
	if got := first.header.Get("Authorization"); got != "" {
		t.Errorf("the first request for another repository carried %q", got)
	}
	if n := r.count(); n != 2 {
		t.Errorf("%d tokens; want 2", n)
	}
}

func TestConcurrentTokens(t *testing.T) {
	t.Parallel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first int
		all   = make(chan struct{})
		r     = &tokenRegistry{}
	)
	const clients = 50
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/token" && q.Header.Get("Authorization") == "" {
			mu.Lock()
			if first++; first == clients { // all of them stand before the 401 together
				close(all)
			}
			mu.Unlock()
			<-all
		}
		r.ServeHTTP(w, q)
	})
	u := openBare(t, s.url, Auth{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range clients {
		wg.Go(func() {
			if _, err := u.Manifest(ctx, repo.Tagged("latest"), plenty); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := r.count(); n != 1 {
		t.Errorf("%d tokens were fetched; want 1", n)
	}
}

// All callers share one fetch: the first caller's leaving must not fail the others.
func TestTokenFlight(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" {
			close(arrived)
			<-release
		}
		r.ServeHTTP(w, q)
	})
	u := openBare(t, s.url, Auth{})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := u.Manifest(ctx, repo.Tagged("latest"), plenty)
		left <- err
	}()
	<-arrived
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the client that left got %v", err)
	}
	stayed := make(chan error)
	go func() { stayed <- manifestOf(t, u) }()
	close(release)
	if err := <-stayed; err != nil {
		t.Errorf("the client that stayed got %v", err)
	}
	if n := r.count(); n != 1 {
		t.Errorf("%d tokens; want 1", n)
	}
}

func TestTokenRefresh(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	u := openBare(t, s.url, Auth{})
	mustManifest(t, u)
	r.revoke()
	mustManifest(t, u)
	if n := r.count(); n != 2 {
		t.Errorf("%d tokens; want 2", n)
	}
}

// A registry that refuses even a fresh token is asked twice, not for ever. Where the
// realm has given it for credentials, these are good, and lack the right.
func TestRefusedToken(t *testing.T) {
	t.Parallel()
	for _, auth := range []Auth{{}, basicCredentials(t)} {
		t.Run(fmt.Sprintf("credentials %v", auth.Source != nil), func(t *testing.T) {
			r := &tokenRegistry{answer: func(n int) string { return fmt.Sprintf(`{"token":"wrong-%s-%d"}`, mark, n) }}
			s := serve(t, "http", "", r.ServeHTTP)
			want := http.StatusUnauthorized
			if auth.Source != nil {
				want = http.StatusForbidden
			}
			e := wantUpstream(t, manifestOf(t, openBare(t, s.url, auth)), want)
			if e.HadAuth != (auth.Source != nil) {
				t.Errorf("HadAuth %v", e.HadAuth)
			}
			if n := len(s.to("/v2/")); n != 2 {
				t.Errorf("%d requests; want 2", n)
			}
			if n := r.count(); n != 1 {
				t.Errorf("%d tokens; want 1", n)
			}
		})
	}
}

// The time is read from the cached token rather than waited for.
func TestTokenLifetime(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		least, most  time.Duration // until it is not used any more
	}{
		{"not said", `{"token":"t"}`, 4 * time.Minute, 5 * time.Minute},
		{"null", `{"token":"t","expires_in":null}`, 4 * time.Minute, 5 * time.Minute},
		{"zero", `{"token":"t","expires_in":0}`, 4 * time.Minute, 5 * time.Minute},
		{"negative", `{"token":"t","expires_in":-5}`, 4 * time.Minute, 5 * time.Minute},
		{"no number", `{"token":"t","expires_in":"soon"}`, 4 * time.Minute, 5 * time.Minute},
		{"a list", `{"token":"t","expires_in":[1]}`, 4 * time.Minute, 5 * time.Minute},
		{"not a number", `{"token":"t","expires_in":"NaN"}`, 4 * time.Minute, 5 * time.Minute},
		{"infinite", `{"token":"t","expires_in":"+Inf"}`, 59 * time.Minute, time.Hour},
		{"a text", `{"token":"t","expires_in":"300"}`, 280 * time.Second, 300 * time.Second},
		{"a fraction", `{"token":"t","expires_in":300.75}`, 280 * time.Second, 301 * time.Second},
		{"with an exponent", `{"token":"t","expires_in":3e2}`, 280 * time.Second, 300 * time.Second},
		{"a fraction of a second", `{"token":"t","expires_in":0.5}`, 0, time.Second},
		{
			"issued long ago by another clock",
			`{"token":"t","expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}`,
			280 * time.Second,
			300 * time.Second,
		},
		{"a JWT of an hour", `{"token":"` + jwt(`{"iat":1000,"exp":4600}`) + `"}`, 4 * time.Minute, 5 * time.Minute},
		{
			"a JWT of a minute",
			`{"access_token":"` + jwt(`{"iat":1000,"exp":1060}`) + `"}`,
			40 * time.Second,
			time.Minute,
		},
		{
			"a JWT that ends before its answer says",
			`{"token":"` + jwt(`{"iat":1000,"exp":1060}`) + `","expires_in":3600}`,
			40 * time.Second,
			time.Minute,
		},
		{
			"a JWT without a beginning",
			`{"token":"` + jwt(fmt.Sprintf(`{"exp":%d}`, time.Now().Unix()+60)) + `"}`,
			40 * time.Second,
			time.Minute,
		},
		{"a JWT that ended long ago", `{"token":"` + jwt(`{"exp":1060}`) + `"}`, 0, time.Second},
		{"a JWT without an end", `{"token":"` + jwt(`{}`) + `"}`, 4 * time.Minute, 5 * time.Minute},
		{"no JWT", `{"token":"a.b.c"}`, 4 * time.Minute, 5 * time.Minute},
		{"300 s", `{"token":"t","expires_in":300}`, 280 * time.Second, 300 * time.Second},
		{"1 s is kept less than that", `{"token":"t","expires_in":1}`, 0, time.Second},
		{"a year is kept an hour", `{"token":"t","expires_in":31536000}`, 59 * time.Minute, time.Hour},
		{
			"the largest number does not overflow",
			`{"token":"t","expires_in":9223372036854775807}`,
			59 * time.Minute,
			time.Hour,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			got, err := parseToken(strings.NewReader(tt.answer), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			left := got.until.Sub(before)
			if left < tt.least || left > tt.most {
				t.Errorf("used for %v; want between %v and %v", left, tt.least, tt.most)
			}
			if left <= 0 {
				t.Error("a token that is never used")
			}
		})
	}
}

// jwt is an unsigned token with these claims.
func jwt(claims string) string {
	return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestExpiredToken(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	u := openBare(t, s.url, Auth{})
	mustManifest(t, u)
	u.tokens.mu.Lock()
	old := u.tokens.byKey[repo.Path]
	u.tokens.byKey[repo.Path] = token{header: old.header, until: time.Now()}
	u.tokens.mu.Unlock()
	mustManifest(t, u)
	if n := r.count(); n != 2 {
		t.Errorf("%d tokens; want 2", n)
	}
	sent := 0
	for _, q := range s.to("/v2/") {
		if q.header.Get("Authorization") == old.header {
			sent++
		}
	}
	if sent != 1 {
		t.Errorf("the old token was sent %d times; want once", sent)
	}
}

func TestTokenCacheSize(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	u := openBare(t, s.url, Auth{})
	u.tokens.mu.Lock()
	for i := range maxTokens {
		u.tokens.byKey["repo/"+strconv.Itoa(i)] = token{header: "x", until: time.Now().Add(time.Hour)}
	}
	u.tokens.mu.Unlock()
	mustManifest(t, u)
	u.tokens.mu.Lock()
	defer u.tokens.mu.Unlock()
	if n := len(u.tokens.byKey); n > maxTokens {
		t.Errorf("%d tokens are cached", n)
	}
	if _, ok := u.tokens.byKey[repo.Path]; !ok {
		t.Error("the newest token is not among them")
	}
}

func TestTokenAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, answer string
		header       string // "": refused
	}{
		{"token", `{"token":"abc"}`, "Bearer abc"},
		{"access_token", `{"access_token":"abc"}`, "Bearer abc"},
		{"both: token counts", `{"token":"abc","access_token":"xyz"}`, "Bearer abc"},
		{"token empty, access_token not", `{"token":"","access_token":"xyz"}`, "Bearer xyz"},
		{
			"other members are ignored",
			`{"token":"abc","issued_at":"2026-01-01T00:00:00Z","refresh_token":"` + mark + `"}`,
			"Bearer abc",
		},
		{"empty body", ``, ""},
		{"empty object", `{}`, ""},
		{"null", `null`, ""},
		{"array", `[]`, ""},
		{"empty token", `{"token":""}`, ""},
		{"both empty", `{"token":"","access_token":""}`, ""},
		{"token is a number", `{"token":7}`, ""},
		{"token is an object", `{"token":{"token":"` + mark + `"}}`, ""},
		{"not JSON, a page", `<html>` + mark + `</html>`, ""},
		{"cut short", `{"token":"` + mark, ""},
		{"expires_in is a string", `{"token":"abc","expires_in":"soon"}`, "Bearer abc"},
		{"token is null, access_token not", `{"token":null,"access_token":"xyz"}`, "Bearer xyz"},
		{"line break: a header of the registry's making", `{"token":"` + mark + `\r\nX-Evil: 1"}`, ""},
		{"lone LF", `{"token":"` + mark + `\n"}`, ""},
		{"NUL", `{"token":"` + mark + `\u0000"}`, ""},
		{"DEL", `{"token":"` + mark + `\u007f"}`, ""},
		{"space", `{"token":"` + mark + ` two"}`, ""},
		{"tab", `{"token":"\t` + mark + `"}`, ""},
		{"beyond ASCII", `{"token":"` + mark + `ü"}`, ""},
		{"no valid UTF-8", "{\"token\":\"" + mark + "\xff\"}", ""},
		{"largest", `{"token":"` + strings.Repeat("a", 32<<10) + `"}`, "Bearer " + strings.Repeat("a", 32<<10)},
		{"oversized token", `{"token":"` + strings.Repeat(mark, 20<<10) + `"}`, ""},
		{
			"oversized beside the token",
			`{"pad":"` + strings.Repeat(" ", maxTokenAnswer) + `","token":"` + mark + `"}`,
			"",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseToken(strings.NewReader(tt.answer), time.Now())
			noSecret(t, err)
			if got.header != tt.header || (err == nil) != (tt.header != "") {
				t.Errorf("got %.60q, %v; want %.60q", got.header, err, tt.header)
			}
			if tt.header != "" {
				return
			}
			// In a whole request no header is made of such an answer, and the client
			// is told "could not tell".
			r := &tokenRegistry{answer: func(int) string { return tt.answer }}
			s := serve(t, "http", "", r.ServeHTTP)
			wantUpstream(t, manifestOf(t, openBare(t, s.url, Auth{})), http.StatusServiceUnavailable)
			if n := len(s.to("/v2/")); n != 1 {
				t.Errorf("%d requests; want 1: such an answer gives nothing to show", n)
			}
		})
	}
}

// A failed token request is not cached: the next one may succeed.
func TestTokenFailure(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/token" && r.count() == 0 {
			r.mu.Lock()
			r.issued++
			r.mu.Unlock()
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		r.ServeHTTP(w, q)
	})
	u := openBare(t, s.url, Auth{})
	wantUpstream(t, manifestOf(t, u), http.StatusServiceUnavailable)
	mustManifest(t, u)
}

func TestRealmStatuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		realm, status int
		retryAfter    string
		want          string
	}{
		{realm: 401, status: 401},
		{realm: 403, status: 403},
		{realm: 404, status: 503},
		{realm: 429, status: 429, retryAfter: "30", want: "30"},
		{realm: 429, status: 429, retryAfter: "soon\x00", want: ""},
		{realm: 500, status: 503},
		{realm: 502, status: 503},
		{realm: 503, status: 503},
		{realm: 204, status: 503},
		{realm: 302, status: 503},
	}
	for _, tt := range tests {
		for _, auth := range []Auth{{}, basicCredentials(t)} {
			name := fmt.Sprintf("%d, credentials %v, %q", tt.realm, auth.Source != nil, tt.retryAfter)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
					if q.URL.Path != "/token" {
						wants(w, bearer("http://"+q.Host+"/token"))
						return
					}
					if tt.retryAfter != "" {
						w.Header()["Retry-After"] = []string{strings.Trim(tt.retryAfter, "\x00")}
					}
					w.WriteHeader(tt.realm)
					if tt.realm != 204 {
						_, _ = w.Write([]byte(`{"token":"` + mark + `"}`))
					}
				})
				e := wantUpstream(t, manifestOf(t, openBare(t, s.url, auth)), tt.status)
				if e.HadAuth != (auth.Source != nil) {
					t.Errorf("HadAuth %v", e.HadAuth)
				}
				if e.RetryAfter != tt.want {
					t.Errorf("Retry-After %q; want %q", e.RetryAfter, tt.want)
				}
			})
		}
	}
}

// A realm that redirects could pass the credentials on to any host.
func TestRealmRedirect(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			thief := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"token":"abc"}`))
			})
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/token" {
					http.Redirect(w, q, thief.url+"/token", status)
					return
				}
				wants(w, bearer("http://"+q.Host+"/token"))
			})
			wantUpstream(t, manifestOf(t, openBare(t, s.url, basicCredentials(t))), http.StatusServiceUnavailable)
			if n := len(thief.requests()); n != 0 {
				t.Errorf("the redirect's target got %d requests", n)
			}
		})
	}
}
