package proxy_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
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

// benchGate is a whole handler before a registry at address, with the decision
// log and the metrics on. policies is what the configuration would hold.
func benchGate(b *testing.B, address string, policies any) http.Handler {
	b.Helper()
	base, err := url.Parse(address)
	if err != nil {
		b.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(up.Close)

	var doc yaml.Node
	text, err := yaml.Marshal(policies)
	if err != nil || yaml.Unmarshal(text, &doc) != nil {
		b.Fatal(err)
	}
	set, problems := policy.Load(policy.Input{Inline: doc.Content[0]})
	if len(problems) > 0 {
		b.Fatal(problems)
	}

	store, err := facts.OpenBolt(b.TempDir(), 1<<30)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	cache, err := verify.NewCache(1000, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(cache.Close)

	gate, err := verify.New(verify.Config{
		Policies: set,
		Store:    store,
		Cache:    cache,
		TTL:      time.Hour,
		DenyTTL:  time.Hour,
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

	handler, err := proxy.New(proxy.Config{
		Log:    slog.New(slog.NewTextHandler(&counter{}, nil)),
		Tracer: tracenoop.NewTracerProvider(),
		Meter:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())),
	}, &proxy.Snapshot{
		Gate:      gate,
		Upstreams: upstreams(map[string]upstream.Registry{"reg.example": up}),
		Streams:   proxy.StreamLimits{All: 1, Client: 1, MinRate: 1},
	})
	if err != nil {
		b.Fatal(err)
	}
	return handler
}

// serve asks the handler again and again.
func serve(b *testing.B, handler http.Handler, path string) {
	b.Helper()
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
}

// BenchmarkWarm is what one request costs whose answer memory has.
func BenchmarkWarm(b *testing.B) {
	set := fixtures.Load(b)
	server := httptest.NewServer(set)
	defer server.Close()
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
	handler := benchGate(b, server.URL, []any{map[string]any{
		"name":        "p",
		"images":      []string{"**"},
		"authorities": []any{map[string]any{"key": string(key)}},
	}})

	manifest := set.Manifest(f.Repository, f.Tag).Descriptor.Digest
	for name, path := range map[string]string{
		"manifest by digest": "/v2/reg.example/" + f.Repository + "/manifests/" + manifest.String(),
		"ping":               "/v2/",
	} {
		b.Run(name, func(b *testing.B) { serve(b, handler, path) })
	}
}

// BenchmarkBlob is a blob on its way from a registry on this machine. Its
// allocations are the HTTP client's as well.
func BenchmarkBlob(b *testing.B) {
	for name, size := range map[string]int{"4KiB": 4 << 10, "8MiB": 8 << 20} {
		b.Run(name, func(b *testing.B) {
			layer := random(size)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(layer))
			}))
			b.Cleanup(server.Close)
			handler := benchGate(b, server.URL, []any{map[string]any{
				"name":   "p",
				"images": []string{"**"},
				"static": "allow",
			}})

			b.SetBytes(int64(size))
			serve(b, handler, "/v2/reg.example/app/blobs/"+digest.FromBytes(layer).String())
		})
	}
}

// counter is where the decision log goes.
type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return len(b), nil
}
