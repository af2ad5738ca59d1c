package proxy_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/fixtures"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
)

// discard is a client that takes everything and keeps the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// BenchmarkWarm is what one request costs whose answer memory has, with the
// decision log and the metrics on.
func BenchmarkWarm(b *testing.B) {
	set := fixtures.Load(b)
	server := httptest.NewServer(set)
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
	if err != nil {
		b.Fatal(err)
	}
	var f fixtures.Fixture
	for _, candidate := range set.Fixtures {
		if candidate.Name == "v2-p256" {
			f = candidate
		}
	}
	key, err := set.Key(f.Keys[0])
	if err != nil {
		b.Fatal(err)
	}
	var doc yaml.Node
	text, err := yaml.Marshal([]any{map[string]any{
		"name":        "p",
		"images":      []string{"reg.example/**"},
		"authorities": []any{map[string]any{"key": string(key)}},
	}})
	if err != nil || yaml.Unmarshal(text, &doc) != nil {
		b.Fatal(err)
	}
	policies, problems := policy.Load(policy.Input{Inline: doc.Content[0]})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	store, err := facts.OpenBolt(b.TempDir(), 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	cache, err := verify.NewCache(1000, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer cache.Close()
	gate, err := verify.New(verify.Config{
		Policies: policies, Store: store, Cache: cache, TTL: time.Hour, DenyTTL: time.Hour,
		Registry: func(string) (verify.Registry, bool) { return up, true },
		Limits: verify.Limits{
			ManifestBytes:    4 << 20,
			Descriptors:      2000,
			PayloadBytes:     8 << 20,
			VerdictBytes:     16 << 20,
			Signatures:       64,
			VerdictsInFlight: 64,
			VerifyTimeout:    10 * time.Second,
			ClientMisses:     1000,
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	handler, err := proxy.New(proxy.Config{
		Log:    slog.New(slog.NewTextHandler(&counter{}, nil)),
		Tracer: tracenoop.NewTracerProvider(),
		Meter:  meter,
	},
		&proxy.Snapshot{Gate: gate, Upstreams: map[string]*upstream.Upstream{"reg.example": up}})
	if err != nil {
		b.Fatal(err)
	}
	digest := set.Manifest(f.Repository, f.Tag).Descriptor.Digest
	for name, path := range map[string]string{
		"manifest by digest": "/v2/reg.example/" + f.Repository + "/manifests/" + digest.String(),
		"ping":               "/v2/",
	} {
		b.Run(name, func(b *testing.B) {
			req := httptest.NewRequest(http.MethodGet, path, nil)
			for range 50 { // ristretto admits a little later
				handler.ServeHTTP(&discard{header: http.Header{}}, req)
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			for b.Loop() {
				w := &discard{header: http.Header{}}
				handler.ServeHTTP(w, req)
				if w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// counter is where the decision log goes.
type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}
