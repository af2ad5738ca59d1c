package upstream

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

const ecrName = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

// ecrTransport answers for ECR's API by a function; every other host is an error.
type ecrTransport func() (status int, body string)

func (f ecrTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "api.ecr.eu-west-1.amazonaws.com" {
		return nil, errors.New("no such host: " + r.URL.Host)
	}
	status, body := f()
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{},
		Body:       io.NopCloser(strings.NewReader(body)),
		Request:    r,
	}, nil
}

// ecrAccount is an account of ECR: its API gives numbered passwords for twelve
// hours, and its registry takes the one that was given last, until it ends.
type ecrAccount struct {
	mu     sync.Mutex
	now    time.Time
	given  int
	ends   time.Time
	denied string // a repository that the account may not read
	down   bool
}

func (a *ecrAccount) clock() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

func (a *ecrAccount) move(by time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(by)
}

func (a *ecrAccount) password() string { return fmt.Sprintf("pass-%s-%d", mark, a.given) }

func (a *ecrAccount) api() (status int, body string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.down {
		return http.StatusBadRequest, `{"__type":"AccessDeniedException","message":"` + mark + `"}`
	}
	a.given++
	a.ends = a.now.Add(12 * time.Hour)
	token := strings.TrimPrefix(basicHeaderOf("AWS", a.password()), "Basic ")
	return http.StatusOK, fmt.Sprintf(
		`{"authorizationData":[{"authorizationToken":%q,"expiresAt":%d}]}`,
		token,
		a.ends.Unix(),
	)
}

func (a *ecrAccount) registry(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch shown := r.Header.Get("Authorization"); {
	case shown == "":
		wants(w, `Basic realm="https://`+ecrName+`/",service="ecr.amazonaws.com"`)
	case shown != basicHeaderOf("AWS", a.password()) || !a.now.Before(a.ends),
		a.denied != "" && strings.Contains(r.URL.Path, a.denied):
		w.WriteHeader(http.StatusForbidden) // ECR's answer to an expired password
	default:
		sendManifest(w, someBytes)
	}
}

func (a *ecrAccount) passwords() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.given
}

func openECR(t *testing.T, a *ecrAccount) (*Upstream, *site) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "KEY")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret-"+mark)
	t.Setenv("AWS_CA_BUNDLE", "")
	s := serve(t, "https", ecrName, a.registry)
	registry := credentials.Registry{Host: "registry.example", Address: ecrName, ImpliedPort: "443"}
	source, err := credentials.NewECR(registry, "", credentials.Cloud{Transport: ecrTransport(a.api), Now: a.clock})
	if err != nil {
		t.Fatal(err)
	}
	return open(t, s.url, Auth{Source: source}, s), s
}

func pullers(t *testing.T, u *Upstream) {
	t.Helper()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := manifestOf(t, u); err != nil {
				noSecret(t, err)
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// Fifty pulls are one question for a password: the first time, when it is renewed
// ahead, and when it has ended. Nothing of it is in a span.
func TestECRRenewal(t *testing.T) {
	a := &ecrAccount{now: time.Now()}
	u, s := openECR(t, a)
	recorder := tracetest.NewSpanRecorder()
	spans := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	obs, err := newObserver(u.host, spans, metricnoop.NewMeterProvider())
	if err != nil {
		t.Fatal(err)
	}
	u.obs = obs

	for i, step := range []time.Duration{0, 11*time.Hour + 55*time.Minute, 13 * time.Hour} {
		a.move(step)
		pullers(t, u)
		pullers(t, u) // a renewal ahead runs beside the pulls before
		if n := a.passwords(); n != i+1 {
			t.Errorf("after another %v: %d passwords; want %d", step, n, i+1)
		}
	}
	for _, r := range s.requests() {
		if r.host != ecrName {
			t.Errorf("a request to %s", r.host)
		}
	}
	if text := fmt.Sprintf("%+v", recorder.Ended()); len(recorder.Ended()) == 0 || strings.Contains(text, mark) {
		t.Errorf("%d spans, a secret among them: %v", len(recorder.Ended()), strings.Contains(text, mark))
	}
}

// A 403 of ECR may mean a password that has ended, whatever the clock says: it is
// renewed once. Then the 403 is believed, and more of them renew nothing.
func TestECRForbidden(t *testing.T) {
	a := &ecrAccount{now: time.Now(), denied: "acme/secret"}
	u, _ := openECR(t, a)
	mustManifest(t, u)

	a.move(2 * time.Minute)
	a.mu.Lock()
	a.ends = a.now.Add(-time.Second) // revoked
	a.mu.Unlock()
	pullers(t, u)
	if n := a.passwords(); n != 2 {
		t.Fatalf("%d passwords; want a second one for the refused first", n)
	}

	a.move(2 * time.Minute)
	for range 10 {
		other := policy.Repository{Host: repo.Host, Path: "acme/secret"}
		_, err := u.Manifest(t.Context(), other.Tagged("latest"), plenty)
		wantUpstream(t, err, http.StatusForbidden)
	}
	if n := a.passwords(); n != 3 {
		t.Errorf("%d passwords; one more was to be had for a repository that is denied", n)
	}
	mustManifest(t, u)
}

// While renewals fail the old password is used to its end. Then there is a 502
// that names the role, and it is no answer of the registry's.
func TestECRDenied(t *testing.T) {
	var logged strings.Builder
	kept := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&locked{to: &logged}, nil)))
	t.Cleanup(func() { slog.SetDefault(kept) })
	a := &ecrAccount{now: time.Now()}
	u, _ := openECR(t, a)
	mustManifest(t, u)

	a.mu.Lock()
	a.down = true
	a.mu.Unlock()
	a.move(11*time.Hour + 55*time.Minute)
	pullers(t, u)
	a.move(6 * time.Minute)
	for range 3 {
		e := wantUpstream(t, manifestOf(t, u), http.StatusBadGateway)
		if e.Identity != "the gate's own AWS identity" || e.Answered || !e.HadAuth {
			t.Errorf("%+v", e)
		}
		wantText(t, e, "AccessDeniedException")
	}
	if text := logged.String(); !strings.Contains(text, "could not be renewed") || strings.Contains(text, mark) {
		t.Errorf("the log says %q", strings.ReplaceAll(text, mark, "…"))
	}
}

// locked is a writer for several goroutines.
type locked struct {
	mu sync.Mutex
	to io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// Credentials that cannot be read are no answer of the registry: a 401 would mean,
// where the image can be read, that there is no signature.
func TestUnreadCredentials(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{`Basic realm="x"`, "Bearer"} {
		t.Run(challenge, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", func(w http.ResponseWriter, r *http.Request) {
				if challenge == "Bearer" {
					wants(w, bearer("http://"+r.Host+"/token"))
					return
				}
				wants(w, challenge)
			})
			name := file(t, testPassword)
			u := openBare(t, s.url, basicFrom(t, name))
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if e := wantUpstream(t, manifestOf(t, u), http.StatusServiceUnavailable); e.Answered {
				t.Error("it counts as the registry's answer")
			}
		})
	}
}

func tokenFrom(t *testing.T, name string) Auth {
	t.Helper()
	source, err := credentials.NewToken(name)
	if err != nil {
		t.Fatal(err)
	}
	return Auth{Source: source}
}

// A token in a file is shown to the registry alone, at once, and as it is now. No
// realm is asked, not even one on the registry's own host.
func TestTokenSource(t *testing.T) {
	t.Parallel()
	good := "first-" + mark
	s := serve(t, "http", "", func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer " + good:
			sendManifest(w, someBytes)
		default:
			wants(w, bearer("http://"+r.Host+"/token"))
		}
	})
	name := file(t, good+"\n")
	u := openBare(t, s.url, tokenFrom(t, name))
	mustManifest(t, u)
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests; want 1", n)
	}

	overwrite(t, name, "second-"+mark)
	e := wantUpstream(t, manifestOf(t, u), http.StatusUnauthorized)
	if !e.HadAuth {
		t.Error("HadAuth is not set")
	}
	good = "second-" + mark
	mustManifest(t, u)
	if n := len(s.to("/token")); n != 0 {
		t.Errorf("the realm was asked %d times", n)
	}

	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if e := wantUpstream(t, manifestOf(t, u), http.StatusBadGateway); e.Identity != "the token of "+name {
		t.Errorf("it is about %q", e.Identity)
	}
}

// A redirect takes no token along, nor does a registry that wants a password get it.
func TestTokenSourceElsewhere(t *testing.T) {
	t.Parallel()
	store := serve(t, "http", "store.example", manifestHandler(someBytes))
	s := serve(t, "http", "registry.example", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, store.url+"/x", http.StatusTemporaryRedirect)
	})
	u := open(t, s.url, tokenFrom(t, file(t, "token-"+mark)), s, store)
	mustManifest(t, u)
	if got := store.credentialsSeen(); len(got) != 0 {
		t.Errorf("the store saw %d headers", len(got))
	}

	basic := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { wants(w, `Basic realm="x"`) })
	wantUpstream(
		t,
		manifestOf(t, openBare(t, basic.url, tokenFrom(t, file(t, "token-"+mark)))),
		http.StatusUnauthorized,
	)
	if got := basic.credentialsSeen(); len(got) != 1 || got[0] != "Bearer token-"+mark {
		t.Errorf("shown were %d headers", len(got))
	}
}

// A realm that does not take an identity token, Azure's after three hours, is shown
// the newer one that the source has, once.
func TestRealmRefusedRenewal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		good   string
		status int // 0: it works
		asked  int
	}{
		{"renewed", "identity-" + mark + "-1", 0, 2},
		{"refused again", "none", http.StatusUnauthorized, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := &tokenRegistry{}
			s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
				if q.URL.Path == "/token" && q.PostForm.Get("refresh_token") != tt.good {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				r.ServeHTTP(w, q)
			})
			source := &changing{
				now:  credentials.Credentials{IdentityToken: "identity-" + mark + "-0"},
				next: &credentials.Credentials{IdentityToken: "identity-" + mark + "-1"},
			}
			u := openBare(t, s.url, Auth{Source: source})
			err := manifestOf(t, u)
			if tt.status == 0 && err != nil {
				t.Error(err)
			}
			if tt.status != 0 {
				wantUpstream(t, err, tt.status)
			}
			posts := 0
			for _, q := range s.to("/token") {
				if q.method == http.MethodPost {
					posts++
				}
			}
			if posts != tt.asked {
				t.Errorf("%d questions by POST; want %d", posts, tt.asked)
			}
		})
	}
}

// No two credentials have one key, however their parts are cut.
func TestTokenKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]credentials.Credentials{}
	for _, c := range []credentials.Credentials{
		{},
		{Username: "a", Password: "b"},
		{Username: "a\x00b"},
		{Username: "a", Password: "b\x00"},
		{Username: `a" "b`},
		{Username: `a`, Password: `" "b`},
		{IdentityToken: "a"},
		{Token: "a"},
		{Password: "a"},
		{Username: "a"},
	} {
		at := key(repo, c)
		if _, twice := seen[at]; twice {
			t.Error("two credentials have one key")
		}
		seen[at] = c
		if !c.Empty() && strings.Contains(at, "a\x00b") {
			t.Error("the key shows what it is of")
		}
	}
}

// While one client's credentials cannot be had, it is not shown the token that
// another one got for the same repository.
func TestTokenOfAnotherScope(t *testing.T) {
	t.Parallel()
	r := &tokenRegistry{}
	s := serve(t, "http", "", r.ServeHTTP)
	source := &changing{}
	source.set("alice", nil)
	u := openBare(t, s.url, Auth{Source: source})
	read := func(scope string) error {
		reader := policy.Repository{Host: repo.Host, Path: repo.Path, Scope: scope}
		_, err := u.Manifest(t.Context(), reader.Tagged("latest"), plenty)
		return err
	}
	if err := read("a"); err != nil {
		t.Fatal(err)
	}

	source.set("", errors.New("they are gone"))
	before := len(s.requests())
	if err := read("b"); err == nil {
		t.Error("the other scope reads it")
	}
	for _, q := range s.requests()[before:] {
		if q.header.Get("Authorization") != "" {
			t.Error("the other scope's token is shown")
		}
	}
	if err := read("a"); err != nil {
		t.Errorf("the scope's own token is not used: %v", err)
	}
}
