package profiles_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/test/profiles"
	"github.com/pullgate/pullgate/test/rig"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
)

// gate is a whole gate before one registry.
type gate struct {
	t        *testing.T
	profile  profiles.Profile
	registry *profiles.Registry
	key      *ecdsa.PrivateKey
	clock    *clock
	log      *rig.Lines
	account  *source

	url    string
	client *http.Client
	proxy  *proxy.Proxy
	policy *policy.Set
	up     *upstream.Upstream
	store  *facts.Bolt
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// newGate starts a gate that shows the registry an account, or nothing where show
// is nil. It ends with the test, and then nothing that was asked meanwhile may
// have been asked in the wrong way. Its profile has a repository of its own.
func newGate(t *testing.T, p profiles.Profile, show *source) *gate {
	t.Helper()
	p.Repository += "-" + strings.ToLower(rand.Text())
	g := &gate{
		t:       t,
		profile: p,
		clock:   &clock{},
		log:     &rig.Lines{},
		account: show,
	}
	g.registry = profiles.New(p, g.clock.now)
	agent := "pullgate/test " + rand.Text()
	t.Cleanup(internet.Join(agent, g.registry))
	t.Cleanup(g.registry.Content().Close)

	config := upstream.Config{
		Host:      p.Host,
		URL:       p.URL(),
		TLS:       internet.Roots(),
		UserAgent: agent,
		Now:       g.clock.now,
	}
	if show != nil {
		config.Auth.Source = show
	}
	var err error
	if g.up, err = upstream.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.up.Close)

	g.key, g.policy = newPolicy(t, p.Host)
	if g.store, err = facts.OpenBolt(t.TempDir(), 16<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.store.Close() })
	g.serve(t)
	t.Cleanup(func() { g.checkRequests(agent) })
	return g
}

// newPolicy demands a signature by a key of every image of a registry.
func newPolicy(t *testing.T, host string) (*ecdsa.PrivateKey, *policy.Set) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}

	text := fmt.Sprintf(`[{name: prod, images: [%q], authorities: [{name: release, key: %q}]}]`,
		host+"/**", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Load(policy.Input{ConfigFile: "config.yaml", Inline: doc.Content[0]})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return key, set
}

// memory is that of all gates, none of which shares a repository with another: it
// is large, and most of the time that a gate takes to start.
var memory = sync.OnceValues(func() (*verify.Cache, error) { return verify.NewCache(100_000, 64<<20) })

func (g *gate) serve(t *testing.T) {
	t.Helper()
	cache, err := memory()
	if err != nil {
		t.Fatal(err)
	}
	g.proxy, err = proxy.New(proxy.Config{
		Log:    slog.New(slog.NewJSONHandler(g.log, nil)),
		Tracer: tracenoop.NewTracerProvider(),
		Meter:  metricnoop.NewMeterProvider(),
	}, g.snapshot(cache))
	if err != nil {
		t.Fatal(err)
	}

	server := httptest.NewUnstartedServer(g.proxy)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Start()
	g.url = server.URL
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	g.client = &http.Client{
		Transport:     transport,
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(server.Close)
	t.Cleanup(transport.CloseIdleConnections)
}

// snapshot is the gate's configuration.
func (g *gate) snapshot(cache *verify.Cache) *proxy.Snapshot {
	g.t.Helper()
	limits := verify.Limits{
		ManifestBytes:    4 << 20,
		Descriptors:      2000,
		PayloadBytes:     8 << 20,
		VerdictBytes:     16 << 20,
		Signatures:       64,
		VerdictsInFlight: 64,
		VerifyTimeout:    patience,
		ClientMisses:     1_000_000,
	}
	decides, err := verify.New(verify.Config{
		Policies:     g.policy,
		Store:        g.store,
		Cache:        cache,
		Limits:       limits,
		Registry:     func(host string) (verify.Registry, bool) { return g.up, host == g.profile.Host },
		TTL:          time.Hour,
		DenyTTL:      30 * time.Second,
		StaleIfError: 24 * time.Hour,
		Recheck:      24 * time.Hour,
		EveryLookup:  true, // else the number of requests depends on who is first
		Now:          g.clock.now,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	registries := &upstream.Registries{}
	registries.Add(g.profile.Host, g.up)
	return &proxy.Snapshot{
		Gate:      decides,
		Upstreams: proxy.Upstreams{Registries: registries},
		Streams:   proxy.StreamLimits{All: 1000, Client: 1000, MinRate: 1},
		Listings:  proxy.ListingLimits{Timeout: patience, Bytes: limits.ManifestBytes},
	}
}

// on is the same gate for a part of its test.
func (g *gate) on(t *testing.T) *gate {
	same := *g
	same.t = t
	return &same
}

// restart forgets everything but the state on disk, as a new process does.
func (g *gate) restart() {
	g.t.Helper()
	cache, err := verify.NewCache(1000, 1<<20)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(cache.Close)
	g.proxy.Swap(g.snapshot(cache))
}

// source shows an account, as a configuration file or a helper does.
type source struct {
	mu      sync.Mutex
	shown   credentials.Credentials
	next    *credentials.Credentials // after a refusal
	refused int
}

// password shows the account that every registry knows.
func password() *source {
	return &source{shown: credentials.Credentials{Username: profiles.User, Password: profiles.Password}}
}

// wrongPassword shows one that no registry knows.
func wrongPassword() *source {
	return &source{shown: credentials.Credentials{Username: profiles.User, Password: "wrong-" + profiles.Mark}}
}

// identityToken shows the account as `docker login` stores it for some registries.
func identityToken() *source {
	return &source{shown: credentials.Credentials{IdentityToken: profiles.Password}}
}

// Get implements credentials.Source.
func (s *source) Get(context.Context, policy.Repository) (credentials.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown, nil
}

// Configured implements credentials.Source.
func (s *source) Configured() bool { return true }

// Refused implements credentials.Source.
func (s *source) Refused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused++
	if s.next != nil {
		s.shown, s.next = *s.next, nil
	}
}

// clock is the gate's and the registry's.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// other is a repository beside the gate's own.
func (g *gate) other(name string) string { return g.profile.Repository + "/" + name }

// answer is one of the gate's, read to its end.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	length int64
	body   []byte
	err    error // the body was cut off
}

// ownHeaders are all that clients get.
var ownHeaders = []string{
	"Accept-Ranges",
	"Cache-Control",
	"Content-Length",
	"Content-Range",
	"Content-Type",
	"Date",
	"Docker-Content-Digest",
	"Docker-Distribution-Api-Version",
	"Etag",
	"Link",
	"Oci-Filters-Applied",
	"Pullgate-Decision",
	"Retry-After",
	"X-Content-Type-Options",
}

// ask asks the gate about a part of a repository; header is name, value, name, value.
func (g *gate) ask(method, repository, part string, header ...string) answer {
	g.t.Helper()
	path := "/v2/" + g.profile.Host + "/" + repository + "/" + part
	return g.askPath(method, path, header...)
}

func (g *gate) askPath(method, path string, header ...string) answer {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()

	a := answer{
		t:      g.t,
		what:   method + " " + path,
		status: resp.StatusCode,
		header: resp.Header,
		length: resp.ContentLength,
	}
	a.body, a.err = io.ReadAll(resp.Body)
	if bytes.Contains(a.body, []byte(profiles.Mark)) || strings.Contains(fmt.Sprint(a.header), profiles.Mark) {
		g.t.Errorf("%s: the answer shows a secret: %v %s", a.what, a.header, a.body)
	}
	for name := range a.header { // a challenge, a cookie and a registry's counters are for the gate alone
		if !slices.Contains(ownHeaders, name) {
			g.t.Errorf("%s: the client got %s: %v", a.what, name, a.header[name])
		}
	}
	return a
}

func (g *gate) manifest(repository, reference string) answer {
	g.t.Helper()
	return g.ask(http.MethodGet, repository, "manifests/"+reference)
}

// served checks that the answer is whole, and holds these bytes.
func (a answer) served(want []byte) {
	a.t.Helper()
	if a.status != http.StatusOK || a.err != nil || !bytes.Equal(a.body, want) {
		a.t.Errorf("%s: %d, %v, %d bytes; want the %d expected: %.300q",
			a.what, a.status, a.err, len(a.body), len(want), a.body)
	}
}

// refused checks that the answer is an error of the specification's form, and
// returns its message.
func (a answer) refused(status int, code, says string) string {
	a.t.Helper()
	var e struct {
		Errors []struct{ Code, Message string }
	}
	err := json.Unmarshal(a.body, &e)
	if err != nil || len(e.Errors) != 1 || a.status != status || e.Errors[0].Code != code ||
		!strings.Contains(e.Errors[0].Message, says) {
		a.t.Errorf("%s: %d %.400s; want %d %s that says %q", a.what, a.status, a.body, status, code, says)
		return ""
	}
	return e.Errors[0].Message
}
