package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

// commandExit runs a command and returns its exit code and what it printed.
func commandExit(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), args, &stdout, &stderr)
	return exit.Code(err), fmt.Sprintf("%s%s%v\n", stdout.String(), stderr.String(), err)
}

// decisionOf pulls and returns the id in the answer's header.
func (r *rig) decisionOf(t *testing.T, what string) string {
	t.Helper()
	resp, err := http.Get("http://" + r.gate + "/v2/demo.example/" + what)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	id := resp.Header.Get("Pullgate-Decision")
	if !decisionID.MatchString(id) {
		t.Fatalf("%s: decision %q", what, id)
	}
	return id
}

// recorded waits until the gate answers the id.
func (r *rig) recorded(t *testing.T, id string) foundDecisions {
	t.Helper()
	for range 500 {
		status, body := get(t, "http://"+r.admin+"/decisions?id="+id)
		var found foundDecisions
		if err := json.Unmarshal([]byte(body), &found); status != http.StatusOK || err != nil {
			t.Fatalf("GET /decisions: %d %s", status, body)
		}
		if len(found.Decisions) > 0 {
			return found
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("decision %s is not recorded within 5 s", id)
	return foundDecisions{}
}

// A refused pull is explained by the id in its answer: by the running gate, and
// by its file once it is gone.
func TestExplain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "kept.jsonl") // outlives the gate
	t.Run("running", func(t *testing.T) {
		r := startRig(t, func(r *rig) string {
			writeIn(t, r.dir, "key.pub", r.key)
			return r.base() + fmt.Sprintf("decisions: {file: %s}\n", file) + signedByKey
		})
		config := filepath.Join(r.dir, "pullgate.yaml")
		allowed, refused := r.decisionOf(t, "signed/manifests/latest"), r.decisionOf(t, "unsigned/manifests/latest")
		if d := r.recorded(t, refused).Decisions[0]; d.Outcome != "denied" || d.Image != "demo.example/unsigned" || d.Reference != "latest" || d.Status != 403 ||
			d.Policy != "keyed" || d.Client != "127.0.0.1" || d.Agent != "Go-http-client/1.1" ||
			len(d.Reasons) != 1 ||
			!strings.HasPrefix(d.Digest, "sha256:") {
			t.Errorf("recorded %+v", d)
		}
		r.recorded(t, allowed)
		for _, asked := range []string{refused, "demo.example/unsigned:latest", "demo.example/unsigned"} {
			code, out := commandExit(t, "explain", asked, "--config", config)
			for _, want := range []string{
				"demo.example/unsigned@sha256:",
				`denied by policy "keyed"`,
				"no signature found",
				"GET manifest latest, by client 127.0.0.1",
				refused,
				"pullgate verify",
			} {
				if code != exit.Denied || !strings.Contains(out, want) {
					t.Fatalf("explain %s: exit %d, without %q:\n%s", asked, code, want, out)
				}
			}
		}
		if code, out := commandExit(
			t,
			"explain",
			allowed,
			"--admin",
			"http://"+r.admin+"/",
		); code != 0 || !strings.Contains(out, `allowed by policy "keyed"`) ||
			!strings.Contains(out, "key.pub") {
			t.Errorf("exit %d: %s", code, out)
		}
		if code, out := commandExit(
			t,
			"explain",
			"demo.example/never:v1",
			"--config",
			config,
		); code != exit.CouldNotTell ||
			!strings.Contains(out, "no decision about") {
			t.Errorf("exit %d: %s", code, out)
		}
		for query, want := range map[string]int{
			"?id=../../etc":           400,
			"?image=%1b%5b2J":         400,
			"?limit=0":                400,
			"?limit=x":                400,
			"?what=1":                 400,
			"?id=A&id=B":              400,
			"?outcome=denied&limit=1": 200,
		} {
			if status, body := get(
				t,
				"http://"+r.admin+"/decisions"+query,
			); status != want ||
				show.Printable(strings.TrimSpace(body)) != strings.TrimSpace(body) {
				t.Errorf("%s: %d %q", query, status, body)
			}
		}
	})
	code, out := commandExit(t, "explain", "demo.example/unsigned:latest", "--decisions", file)
	if code != exit.Denied || !strings.Contains(out, "no signature found") {
		t.Errorf("from the file: exit %d: %s", code, out)
	}
	dir := t.TempDir()
	config := writeIn(
		t,
		dir,
		"pullgate.yaml",
		"admin: {listen: \"127.0.0.1:1\"}\nupstreams: [{host: demo.example}]\ndecisions: {file: "+file+"}\n",
	)
	if code, out := commandExit(
		t,
		"explain",
		"demo.example/signed:latest",
		"--config",
		config,
		"--json",
	); code != 0 ||
		!strings.Contains(out, `"outcome":"allowed"`) {
		t.Errorf("from the file that the configuration names: exit %d: %s", code, out)
	}
	if code, _ := commandExit(
		t,
		"explain",
		"demo.example/signed:latest",
		"--decisions",
		filepath.Join(dir, "none.jsonl"),
	); code != exit.CouldNotTell {
		t.Errorf("a file that is missing: exit %d", code)
	}
}

// What is recorded: every manifest; of blobs only what was not simply allowed.
func TestWhatIsRecorded(t *testing.T) {
	t.Parallel()
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + signedByKey
	})
	status, manifest := get(t, "http://"+r.gate+"/v2/demo.example/signed/manifests/latest")
	if status != http.StatusOK {
		t.Fatal(status)
	}
	r.pull(t, "signed/blobs/"+between(manifest, `"digest":"`, `"`))
	r.pull(t, "signed/tags/list")
	r.pull(t, "unsigned/blobs/sha256:"+strings.Repeat("0", 64))
	r.pull(t, "signed/manifests/../x")
	last := r.decisionOf(t, "unsigned/manifests/latest")
	r.recorded(t, last)
	_, body := get(t, "http://"+r.admin+"/decisions")
	var found foundDecisions
	if err := json.Unmarshal([]byte(body), &found); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range found.Decisions {
		got = append(got, d.Kind+" "+d.Outcome)
	}
	if want := []string{"manifest denied", "blob denied", "manifest allowed"}; !slices.Equal(got, want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
	if !found.Decisions[1].Unknown {
		t.Errorf("the blob of nothing known is %+v", found.Decisions[1])
	}
	info, err := os.Stat(filepath.Join(r.dir, "pullgate-state", "decisions.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the default file: %v, %v", info, err)
	}
}

// A file that cannot be written costs no pull.
func TestPullsWithoutADiskForDecisions(t *testing.T) {
	t.Parallel()
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + "decisions: {file: key.pub/decisions.jsonl}\n" + signedByKey
	})
	for range 3 {
		if status := r.pull(t, "signed/manifests/latest"); status != http.StatusOK {
			t.Errorf("signed: %d", status)
		}
		if status := r.pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
			t.Errorf("unsigned: %d", status)
		}
	}
	for range 500 {
		if _, metrics := get(
			t,
			"http://"+r.admin+"/metrics",
		); strings.Contains(
			metrics,
			`pullgate_decisions_dropped_total{reason="write_failed"} 6`,
		) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("what was lost is not counted")
}

// logReceiver is an OTLP/HTTP collector that keeps the bodies of log records.
type logReceiver struct {
	mu     sync.Mutex
	bodies []string
}

func (l *logReceiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	var export logs.ExportLogsServiceRequest
	if err != nil || req.URL.Path != "/v1/logs" || proto.Unmarshal(body, &export) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, resource := range export.GetResourceLogs() {
		for _, scope := range resource.GetScopeLogs() {
			for _, record := range scope.GetLogRecords() {
				l.bodies = append(l.bodies, record.GetBody().GetStringValue())
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func TestDecisionsToCollector(t *testing.T) {
	got := &logReceiver{}
	server := httptest.NewServer(got)
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", server.URL+"/v1/logs")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + "decisions: {to: otlp}\n" + signedByKey
	})
	id := r.decisionOf(t, "unsigned/manifests/latest")
	r.recorded(t, id) // memory answers
	for range 500 {
		got.mu.Lock()
		bodies := slices.Clone(got.bodies)
		got.mu.Unlock()
		if len(bodies) > 0 {
			if d, ok := decodeDecision([]byte(bodies[0])); !ok || d.ID != id || d.Outcome != "denied" {
				t.Errorf("sent %s", bodies[0])
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("nothing was sent within 5 s")
}

// Without an address in the environment, otlp is a mistake that ends the start.
func TestDecisionsToNobody(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	file := writeConfig(
		t,
		"listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\"}\nupstreams: [{host: docker.io}]\n"+
			"decisions: {to: otlp}\n",
	)
	if code, out := commandExit(
		t,
		"serve",
		"--config",
		file,
	); code != exit.CouldNotTell ||
		!strings.Contains(out, "OTEL_EXPORTER_OTLP_ENDPOINT") {
		t.Errorf("exit %d: %s", code, out)
	}
}
