package proxy_test

import (
	"bufio"
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
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/sigs"
)

// rig is a whole gate in this process, with a hostile registry behind it.
type rig struct {
	t      *testing.T
	key    *ecdsa.PrivateKey
	regs   map[string]*hostile.Registry // by familiar host
	reg    *hostile.Registry            // reg.example
	url    string                       // of the gate
	log    *lockedBuffer
	record *record // of decisions
	client *http.Client

	options   options
	upstreams map[string]upstream.Registry
	store     *facts.Bolt
	cache     *verify.Cache
	proxy     *proxy.Proxy
	clock     *clock
}

// options are what a test may want otherwise.
type options struct {
	policies  string // YAML; KEY stands for the rig's key
	mode      policy.Mode
	hosts     []string // beside reg.example
	fallback  string   // defaultUpstream
	hostnames map[string]string
	limits    func(*verify.Limits)
	tagTTL    time.Duration
	recheck   time.Duration
	action    string // defaultAction
	password  string // file with the gate's password for reg.example
	tracer    trace.TracerProvider
	help      string
	canary    policy.Repository
	streams   proxy.StreamLimits

	trustRoots string // YAML of policies' trust roots
	trust      sigs.Trust
}

// standard says: prod must be signed, open admits all, closed admits nothing.
const standard = `
- {name: prod, images: ["reg.example/prod/**", "docker.io/library/*"], authorities: [{name: release, key: KEY}]}
- {name: open, images: ["reg.example/open/**"], static: allow}
- {name: closed, images: ["reg.example/closed/**"], static: deny}
`

// verifyTimeout is short enough to wait for; rigs whose registry stalls have it.
var verifyTimeout = pace(300 * time.Millisecond)

// pace stretches a time where the race detector makes everything slower.
func pace(d time.Duration) time.Duration {
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return 4 * d
	}
	return d
}

func impatient(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = verifyTimeout } }

// ifStalling is impatient where the trick needs it: on a busy machine the
// others may take longer than that.
func ifStalling(trick hostile.Trick) func(*options) {
	if strings.HasPrefix(trick.Name, "stall") {
		return impatient
	}
	return func(*options) {}
}

// newRig starts everything; it ends with the test.
func newRig(t *testing.T, change ...func(*options)) *rig {
	t.Helper()
	r := &rig{
		t:         t,
		key:       newKey(t),
		regs:      map[string]*hostile.Registry{},
		log:       &lockedBuffer{},
		record:    &record{},
		upstreams: map[string]upstream.Registry{},
		clock:     &clock{},
	}
	r.options = options{
		policies: standard,
		hosts:    []string{},
		tracer:   tracenoop.NewTracerProvider(),
		streams:  proxy.StreamLimits{All: 1000, Client: 1000, MinRate: 1},
	}
	for _, c := range change {
		c(&r.options)
	}
	for _, host := range append([]string{"reg.example"}, r.options.hosts...) {
		r.regs[host] = hostile.New()
		server := httptest.NewUnstartedServer(r.regs[host])
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		server.Start()
		t.Cleanup(server.Close)
		t.Cleanup(r.regs[host].Close) // before the server's: stalled answers end first
		base, err := url.Parse(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		config := upstream.Config{Host: host, URL: base, UserAgent: "pullgate/test", Now: r.clock.now}
		if r.options.password != "" {
			config.Auth = gateAuth(t, r.options.password)
		}
		up, err := upstream.New(config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(up.Close)
		r.upstreams[host] = up
	}
	r.reg = r.regs["reg.example"]
	var err error
	if r.store, err = facts.OpenBolt(t.TempDir(), 64<<20); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	r.newCache()
	r.proxy, err = proxy.New(proxy.Config{
		Log:       slog.New(slog.NewJSONHandler(r.log, nil)),
		Tracer:    r.options.tracer,
		Meter:     metricnoop.NewMeterProvider(),
		Decisions: r.record.take,
	}, r.snapshot())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(r.proxy)
	complaints := &lockedBuffer{} // net/http prints panics there
	server.Config.ErrorLog = log.New(complaints, "", 0)
	t.Cleanup(func() {
		if text := complaints.String(); strings.Contains(text, "panic") {
			t.Errorf("the gate panicked: %.4000s", text)
		}
	})
	server.Start()
	r.url = server.URL
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	r.client = &http.Client{
		Transport: transport, Timeout: pace(15 * time.Second),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(server.Close)
	t.Cleanup(transport.CloseIdleConnections)
	return r
}

func withPolicies(yaml string) func(*options) { return func(o *options) { o.policies = yaml } }

// limits is short for the options below.
type limits = verify.Limits

func withMode(m policy.Mode) func(*options) { return func(o *options) { o.mode = m } }

// snapshot is the rig's configuration as it is written in its options now.
func (r *rig) snapshot() *proxy.Snapshot {
	r.t.Helper()
	limits := verify.Limits{
		ManifestBytes:    4 << 20,
		Descriptors:      2000,
		PayloadBytes:     8 << 20,
		VerdictBytes:     16 << 20,
		Signatures:       64,
		VerdictsInFlight: 64,
		VerifyTimeout:    pace(15 * time.Second),
		ClientMisses:     1_000_000,
	}
	if r.options.limits != nil {
		r.options.limits(&limits)
	}
	gate, err := verify.New(verify.Config{
		Policies: r.policies(r.options.policies),
		Trust:    r.options.trust,
		Mode:     r.options.mode,
		Store:    r.store,
		Cache:    r.cache,
		Limits:   limits,
		Registry: func(host string) (verify.Registry, bool) {
			u, ok := r.upstreams[host]
			return u, ok
		},
		Mirrors: func(host string) []verify.Registry {
			var list []verify.Registry
			for _, u := range r.upstreams[host].Each() {
				list = append(list, u)
			}
			return list
		},
		TTL:          time.Hour,
		DenyTTL:      30 * time.Second,
		TagTTL:       r.options.tagTTL,
		StaleIfError: 24 * time.Hour,
		Recheck:      r.options.recheck,
		Now:          r.clock.now,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return &proxy.Snapshot{
		Gate:            gate,
		Upstreams:       upstreams(r.upstreams),
		Hostnames:       r.options.hostnames,
		DefaultUpstream: r.options.fallback,
		Help:            r.options.help,
		Streams:         r.options.streams,
		Listings: proxy.ListingLimits{
			Timeout: limits.VerifyTimeout,
			Bytes:   limits.ManifestBytes,
		},
	}
}

func (r *rig) policies(text string) *policy.Set {
	r.t.Helper()
	key := fmt.Sprintf("%q", publicPEM(r.t, r.key))
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(text, "KEY", key)), &doc); err != nil {
		r.t.Fatal(err)
	}
	in := policy.Input{
		ConfigFile:    "config.yaml",
		Inline:        doc.Content[0],
		DefaultAction: r.options.action,
		Canary:        r.options.canary,
	}
	if r.options.trustRoots != "" {
		var roots yaml.Node
		if err := yaml.Unmarshal([]byte(r.options.trustRoots), &roots); err != nil {
			r.t.Fatal(err)
		}
		in.TrustRoots = roots.Content[0]
	}
	set, problems := policy.Load(in)
	if len(problems) > 0 {
		r.t.Fatal(problems)
	}
	return set
}

// reload puts other options in place, as SIGHUP does.
func (r *rig) reload(change ...func(*options)) {
	r.t.Helper()
	for _, c := range change {
		c(&r.options)
	}
	r.proxy.Swap(r.snapshot())
}

// restart forgets everything but the store, as a new process does.
func (r *rig) restart() {
	r.t.Helper()
	r.newCache()
	r.proxy.Swap(r.snapshot())
}

func (r *rig) newCache() {
	r.t.Helper()
	cache, err := verify.NewCache(1000, 64<<20)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cache.Close)
	r.cache = cache
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// clock is the gate's, which a test may put forward.
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

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines are the log's, decoded.
func (l *lockedBuffer) lines(t *testing.T) []map[string]any {
	t.Helper()
	var list []map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("log line %.200q: %v", line, err)
		}
		list = append(list, m)
	}
	return list
}

// got is an answer, read to its end.
type got struct {
	status int
	header http.Header
	length int64 // Content-Length, -1 without
	body   []byte
	err    error // of reading the body: the answer was cut off
}

// do sends one request; header is name, value, name, value. An error before
// the answer's headers fails the test.
func (r *rig) do(method, path string, header ...string) got {
	r.t.Helper()
	g, err := r.try(r.t.Context(), method, path, header...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return g
}

func (r *rig) try(ctx context.Context, method, path string, header ...string) (got, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return got{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return got{}, err
	}
	defer resp.Body.Close()
	g := got{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength}
	g.body, g.err = io.ReadAll(resp.Body)
	return g, nil
}

func (r *rig) get(path string, header ...string) got {
	r.t.Helper()
	return r.do(http.MethodGet, path, header...)
}

func (r *rig) head(path string, header ...string) got {
	r.t.Helper()
	return r.do(http.MethodHead, path, header...)
}

// raw sends a request line as it is: clients clean paths up, attackers do not.
func (r *rig) raw(method, target string, header ...string) got {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n", method, target)
	for i := 0; i+1 < len(header); i += 2 {
		fmt.Fprintf(conn, "%s: %s\r\n", header[i], header[i+1])
	}
	fmt.Fprint(conn, "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("%s %q: %v", method, target, err)
	}
	defer resp.Body.Close()
	g := got{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength}
	g.body, g.err = io.ReadAll(resp.Body)
	return g
}

// refusal is the distribution spec's error envelope.
type refusal struct {
	Errors []struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  struct {
			Image    string   `json:"image"`
			Digest   string   `json:"digest"`
			Policy   string   `json:"policy"`
			Decision string   `json:"decision"`
			Reasons  []string `json:"reasons"`
		} `json:"detail"`
	} `json:"errors"`
}

// refused checks that g is an error of the spec's form and returns it.
func (g got) refused(t *testing.T, status int, code string) refusal {
	t.Helper()
	if g.status != status {
		t.Fatalf("status %d, want %d: %.300s", g.status, status, g.body)
	}
	var e refusal
	if err := json.Unmarshal(g.body, &e); err != nil || len(e.Errors) != 1 {
		t.Fatalf("not an error envelope: %v: %.300q", err, g.body)
	}
	if e.Errors[0].Code != code || e.Errors[0].Message == "" {
		t.Fatalf("code %q, want %q: %.300s", e.Errors[0].Code, code, g.body)
	}
	if c := g.header.Get("Cache-Control"); c != "no-store" {
		t.Errorf("Cache-Control of an error is %q", c)
	}
	return e
}

// served checks that g is a whole 200 with exactly these bytes.
func (g got) served(t *testing.T, want []byte) {
	t.Helper()
	if g.status != http.StatusOK || g.err != nil {
		t.Fatalf("status %d, %v, want a whole 200: %.300s", g.status, g.err, g.body)
	}
	if !bytes.Equal(g.body, want) {
		t.Fatalf("%d bytes that are not the %d expected: %.200q", len(g.body), len(want), g.body)
	}
}

func manifests[T ~string](repo string, reference T) string {
	return "/v2/reg.example/" + repo + "/manifests/" + string(reference)
}

func blobs[T ~string](repo string, d T) string {
	return "/v2/reg.example/" + repo + "/blobs/" + string(d)
}

// signed pushes an image that the policy prod admits.
func (r *rig) signed(tag string) hostile.Image {
	image := r.reg.PushImage("prod/app", tag)
	r.reg.Sign("prod/app", image.Digest, r.key)
	return image
}

// mend makes the registry honest again and waits for look-ups that failed with
// their client's patience to end: who asks meanwhile shares their failure.
func (r *rig) mend() {
	r.reg.Off()
	time.Sleep(30 * time.Millisecond)
}

// refusedAt checks that a path is refused with 403 for GET and HEAD.
func (r *rig) refusedAt(what, path string) {
	r.t.Helper()
	for _, method := range []string{http.MethodHead, http.MethodGet} {
		if g := r.do(method, path); g.status != http.StatusForbidden {
			r.t.Errorf("%s: %s %s: status %d, want 403: %.200s", what, method, path, g.status, g.body)
		}
	}
}

// upstreams are the registries of these hosts.
func upstreams(byHost map[string]upstream.Registry) proxy.Upstreams {
	list := &upstream.Registries{}
	for host, u := range byHost {
		list.Add(host, u)
	}
	return proxy.Upstreams{Registries: list}
}

// gateAuth is what the gate shows an upstream: the user "gate" and the password
// in a file.
func gateAuth(t *testing.T, passwordFile string) upstream.Auth {
	t.Helper()
	source, err := credentials.NewBasic("gate", passwordFile)
	if err != nil {
		t.Fatal(err)
	}
	return upstream.Auth{Source: source}
}
