package server_test

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pullgate/pullgate/test/rig"
)

// receiver is an OTLP/HTTP collector that keeps the spans it gets.
type receiver struct {
	mu    sync.Mutex
	spans []*tracepb.Span
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var export collector.ExportTraceServiceRequest
	if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &export) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			r.spans = append(r.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (r *receiver) all() []*tracepb.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// A cold pull is one tree of spans, hung below the client's own.
func TestSpans(t *testing.T) {
	got := &receiver{}
	collector := httptest.NewServer(got)
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	req, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodGet,
		"http://"+r.Gate+"/v2/demo.example/signed/manifests/latest",
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", "00-"+trace+"-"+parent+"-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	names := map[string]int{}
	for range 200 {
		clear(names)
		for _, s := range got.all() {
			if hex.EncodeToString(s.GetTraceId()) == trace {
				names[s.GetName()]++
			}
		}
		if names["pullgate manifest"] > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if names["pullgate manifest"] != 1 || names["verdict"] != 1 || names["upstream manifests"] < 2 ||
		names["upstream blobs"] != 1 {
		t.Errorf("spans %v", names)
	}
	byID := map[string]*tracepb.Span{}
	for _, s := range got.all() {
		byID[hex.EncodeToString(s.GetSpanId())] = s
	}
	for _, s := range got.all() {
		if hex.EncodeToString(s.GetTraceId()) != trace {
			continue
		}
		above := hex.EncodeToString(s.GetParentSpanId())
		if s.GetName() == "pullgate manifest" && above != parent {
			t.Errorf("the pull's span hangs below %s, not below the client's", above)
		}
		if s.GetName() != "pullgate manifest" && byID[above] == nil {
			t.Errorf("%s hangs below nothing", s.GetName())
		}
	}
	if id := resp.Header.Get("Pullgate-Decision"); !slices.ContainsFunc(got.all(), func(s *tracepb.Span) bool {
		for _, a := range s.GetAttributes() {
			if a.GetKey() == "pullgate.decision" && a.GetValue().GetStringValue() == id {
				return true
			}
		}
		return false
	}) {
		t.Errorf("no span carries the decision %q", id)
	}
}

// A push asks for its own layers first: that the gate knows nothing of them is no
// denial, in metrics or record.
func TestPushedParts(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	blob := "http://" + r.Gate + "/v2/demo.example/signed/blobs/sha256:" + strings.Repeat("0", 64)
	for range 2 {
		resp, err := http.Head(blob)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("status %d", resp.StatusCode)
		}
	}

	_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
	if !strings.Contains(metrics, `pullgate_requests_total{kind="blob",outcome="unknown"} 2`) ||
		strings.Contains(metrics, `pullgate_requests_total{kind="blob",outcome="denied"}`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	count := func(outcome string) int {
		_, body := rig.Get(t, "http://"+r.Admin+"/decisions?outcome="+outcome)
		return strings.Count(body, `"id":`)
	}
	for range 200 {
		if count("unknown") == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if unknown, denied := count("unknown"), count("denied"); unknown != 2 || denied != 0 {
		t.Errorf("recorded %d as unknown and %d as denied", unknown, denied)
	}
}

// The list in docs/metrics.md and the metrics themselves are the same.
func TestMetricsDocumented(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		rig.Write(t, r.Dir, "root.json", "{}")
		rig.Write(t, r.Dir, "keyless.yaml", `
trustRoots: [{name: corp, tuf: {mirror: "http://127.0.0.1:1", root: root.json}}]
policies:
  - name: keyless
    images: ["other.example/**"]
    authorities: [{keyless: {trustRoots: [corp], identities: [{issuer: i, subject: s}]}}]
`)
		return r.Base() + "policyFiles: [keyless.yaml]\n" + rig.SignedByKey
	})
	for _, what := range []string{"signed/manifests/latest", "signed/manifests/latest", "unsigned/manifests/latest"} {
		r.Pull(t, what)
	}
	r.UntilMetric(t, "pullgate_trust_refreshes_total") // the mirror is down: failed
	rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"), r.Config+"mode: warn\n")
	r.Until(t, "unsigned/manifests/latest", http.StatusOK)
	_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")

	// Another gate shares a database, which is away, and intercepts.
	intercepts := rig.FreeAddr(t)
	replica := rig.Start(t, func(r *rig.Rig) string {
		writeAuthority(t, r.Dir, "demo.example")
		return r.Keyed(t) + "database: postgres://gate@127.0.0.1:1/facts?sslmode=disable\n" +
			"intercept: {listen: \"" + intercepts + "\", caCertFile: ca.crt, caKeyFile: ca.key}\n"
	})
	replica.Pull(t, "signed/manifests/latest")
	rig.Get(t, "http://"+intercepts+"/v2/") // no request for a proxy
	_, more := rig.Get(t, "http://"+replica.Admin+"/metrics")
	metrics += more

	has := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (pullgate_\w+) `).FindAllStringSubmatch(metrics, -1) {
		has[m[1]] = true
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(pullgate_\\w+)`").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
	}
	for name := range has {
		if !listed[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range listed {
		if !has[name] {
			t.Errorf("%s is documented and does not exist", name)
		}
	}
	for line := range strings.Lines(metrics) {
		for _, private := range []string{"unsigned", "sha256", "127.0.0.1"} {
			if strings.Contains(line, "pullgate_") && strings.Contains(line, private) {
				t.Errorf("a label carries more than it may: %s", line)
			}
		}
	}
}
