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

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/test/rig"
)

// commandExit runs a command and returns its exit code and what it printed.
func commandExit(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err := run(t.Context(), args, &stdout, &stderr)
	return exit.Code(err), fmt.Sprintf("%s%s%v\n", stdout.String(), stderr.String(), err)
}

// decisionOf pulls and returns the id in the answer's header.
func decisionOf(t *testing.T, r *rig.Rig, what string) string {
	t.Helper()
	resp, err := http.Get("http://" + r.Gate + "/v2/demo.example/" + what)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	id := resp.Header.Get("Pullgate-Decision")
	if !decisions.IsID(id) {
		t.Fatalf("%s: decision %q", what, id)
	}
	return id
}

// recorded waits until the gate answers the id.
func recorded(t *testing.T, r *rig.Rig, id string) decisions.Answer {
	t.Helper()
	for range 500 {
		status, body := rig.Get(t, "http://"+r.Admin+"/decisions?id="+id)
		var found decisions.Answer
		if err := json.Unmarshal([]byte(body), &found); status != http.StatusOK || err != nil {
			t.Fatalf("GET /decisions: %d %s", status, body)
		}
		if len(found.Decisions) > 0 {
			return found
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("decision %s is not recorded within 5 s", id)
	return decisions.Answer{}
}

// TestExplain: a refused pull is explained by the id in its answer: by the running
// gate, and by its file once it is gone.
func TestExplain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "kept.jsonl") // outlives the gate
	t.Run("running", func(t *testing.T) {
		r := rig.Start(t, func(r *rig.Rig) string {
			rig.Write(t, r.Dir, "key.pub", r.Key)
			return r.Base() + fmt.Sprintf("decisions: {file: %s}\n", file) + rig.SignedByKey
		})
		config := filepath.Join(r.Dir, "pullgate.yaml")
		allowed, refused := decisionOf(t, r, "signed/manifests/latest"), decisionOf(t, r, "unsigned/manifests/latest")

		t.Run("record", func(t *testing.T) {
			d := recorded(t, r, refused).Decisions[0]
			if d.Outcome != "denied" || d.Status != 403 || d.Policy != "keyed" || len(d.Reasons) != 1 ||
				d.Image != "demo.example/unsigned" || d.Reference != "latest" ||
				!strings.HasPrefix(d.Digest, "sha256:") ||
				d.Client != "127.0.0.1" || d.Agent != "Go-http-client/1.1" {
				t.Errorf("recorded %+v", d)
			}
			recorded(t, r, allowed)
		})

		for _, asked := range []string{refused, "demo.example/unsigned:latest", "demo.example/unsigned"} {
			t.Run("refused "+strings.ReplaceAll(asked, "/", " "), func(t *testing.T) {
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
						t.Fatalf("exit %d, without %q:\n%s", code, want, out)
					}
				}
			})
		}

		t.Run("allowed", func(t *testing.T) {
			code, out := commandExit(t, "explain", allowed, "--admin", "http://"+r.Admin+"/")
			if code != 0 || !strings.Contains(out, `allowed by policy "keyed"`) || !strings.Contains(out, "key.pub") {
				t.Errorf("exit %d: %s", code, out)
			}
		})
		t.Run("never asked", func(t *testing.T) {
			code, out := commandExit(t, "explain", "demo.example/never:v1", "--config", config)
			if code != exit.CouldNotTell || !strings.Contains(out, "no decision about") {
				t.Errorf("exit %d: %s", code, out)
			}
		})

		for query, want := range map[string]int{
			"?id=../../etc":           400,
			"?image=%1b%5b2J":         400,
			"?limit=0":                400,
			"?limit=x":                400,
			"?what=1":                 400,
			"?id=A&id=B":              400,
			"?kind=x":                 400,
			"?kind=blob":              200,
			"?outcome=denied&limit=1": 200,
		} {
			t.Run("GET "+query, func(t *testing.T) {
				status, body := rig.Get(t, "http://"+r.Admin+"/decisions"+query)
				body = strings.TrimSpace(body)
				if status != want || show.Printable(body) != body {
					t.Errorf("%d %q", status, body)
				}
			})
		}
	})

	t.Run("file", func(t *testing.T) {
		code, out := commandExit(t, "explain", "demo.example/unsigned:latest", "--decisions", file)
		if code != exit.Denied || !strings.Contains(out, "no signature found") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	t.Run("file of the configuration", func(t *testing.T) {
		config := rig.Write(t, t.TempDir(), "pullgate.yaml",
			"admin: {listen: \"127.0.0.1:1\"}\nupstreams: [{host: demo.example}]\n"+
				"decisions: {file: "+file+"}\n")
		code, out := commandExit(t, "explain", "demo.example/signed:latest", "--config", config, "--json")
		if code != 0 || !strings.Contains(out, `"outcome":"allowed"`) {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	t.Run("missing file", func(t *testing.T) {
		missing := filepath.Join(t.TempDir(), "none.jsonl")
		code, _ := commandExit(t, "explain", "demo.example/signed:latest", "--decisions", missing)
		if code != exit.CouldNotTell {
			t.Errorf("exit %d", code)
		}
	})
}

// TestFoldedLayers: what an image was refused for is found below any number of
// decisions about its layers, which are counted.
func TestFoldedLayers(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, records ...decisions.Record) string {
		t.Helper()
		var text bytes.Buffer
		for i := range records {
			records[i].ID, records[i].Client = strings.Repeat("A", 24)+fmt.Sprintf("%02d", i%90), "10.0.0.1"
			if err := json.NewEncoder(&text).Encode(&records[i]); err != nil {
				t.Fatal(err)
			}
		}
		return rig.Write(t, t.TempDir(), "d.jsonl", text.String())
	}
	record := func(kind, outcome, reference string) decisions.Record {
		return decisions.Record{Kind: kind, Outcome: outcome, Image: "demo.example/app", Reference: reference}
	}
	list := []decisions.Record{record("manifest", "allowed", "old"), record("manifest", "denied", "new")}
	for range 70 {
		list = append(list, record("blob", "denied", "sha256:00"))
	}
	list = append(list, record("blob", "error", "sha256:00"))

	for name, row := range map[string]struct {
		records []decisions.Record
		exit    int
		want    []string
	}{
		"manifest first": {list, exit.Denied, []string{
			"demo.example/app:new\n  denied",
			"allowed   manifest old",
			"layers and configs:\n  1 × error, the newest",
			"  70 × denied, the newest",
		}},
		"no manifest": {list[2:], exit.CouldNotTell, []string{"error, answered", "70 × denied"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := write(t, slices.Clone(row.records)...)
			code, out := commandExit(t, "explain", "demo.example/app", "--decisions", file)
			for _, want := range row.want {
				if code != row.exit || !strings.Contains(out, want) {
					t.Errorf("exit %d, want %d and %q:\n%s", code, row.exit, want, out)
				}
			}
			if strings.Count(out, "\n") > 15 {
				t.Errorf("the layers are not folded:\n%s", out)
			}
		})
	}
}

// TestHostileExplanation: nothing that a client or a registry says moves the
// terminal that explain prints to.
func TestHostileExplanation(t *testing.T) {
	t.Parallel()
	const evil = "x\n{\"id\":\"forged\"}\r\x1b[2J\x07\u009b31m\u202egnp.exe\x7f\xff\u2028 é"
	for name, text := range map[string]string{"short": evil, "long": strings.Repeat(evil, 20)} {
		t.Run(name, func(t *testing.T) {
			line, err := json.Marshal(decisions.Record{
				ID:         text,
				Client:     text,
				Agent:      text,
				Method:     text,
				Kind:       text,
				Image:      "demo.example/app",
				Reference:  text,
				Digest:     text,
				Parent:     text,
				Outcome:    "denied",
				Policy:     text,
				PolicyHash: text,
				Findings:   []decisions.Finding{{Authority: text, Detail: text}},
				Reasons:    []decisions.Reason{{Authority: text, Reason: text}, {Reason: text}},
				Signer:     text,
				Error:      text,
			})
			if err != nil {
				t.Fatal(err)
			}
			file := rig.Write(t, t.TempDir(), "d.jsonl", strings.Repeat(string(line)+"\n", 2))
			for _, flag := range []string{"--json=false", "--json"} {
				_, out := commandExit(t, "explain", "demo.example/app", "--decisions", file, flag)
				if !strings.Contains(out, "gnp.exe") {
					t.Fatalf("%s: nothing of the record is printed: %.300s", flag, out)
				}
				for line := range strings.Lines(out) {
					if line = strings.TrimSuffix(line, "\n"); show.Printable(line) != line {
						t.Errorf("%s prints %.300q", flag, line)
					}
				}
			}
		})
	}
}

// TestRecordedDecisions: every manifest is recorded; of blobs only what was not
// simply allowed.
func TestRecordedDecisions(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	status, manifest := rig.Get(t, "http://"+r.Gate+"/v2/demo.example/signed/manifests/latest")
	if status != http.StatusOK {
		t.Fatal(status)
	}
	r.Pull(t, "signed/blobs/"+rig.Between(manifest, `"digest":"`, `"`))
	r.Pull(t, "signed/tags/list")
	r.Pull(t, "unsigned/blobs/sha256:"+strings.Repeat("0", 64))
	r.Pull(t, "signed/manifests/../x")
	last := decisionOf(t, r, "unsigned/manifests/latest")
	recorded(t, r, last)
	_, body := rig.Get(t, "http://"+r.Admin+"/decisions")
	var found decisions.Answer
	if err := json.Unmarshal([]byte(body), &found); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range found.Decisions {
		got = append(got, d.Kind+" "+d.Outcome)
	}
	if want := []string{"manifest denied", "blob unknown", "manifest allowed"}; !slices.Equal(got, want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
	if !found.Decisions[1].Unknown {
		t.Errorf("the blob of nothing known is %+v", found.Decisions[1])
	}
	info, err := os.Stat(filepath.Join(r.Dir, "pullgate-state", "decisions.jsonl"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the default file: %v, %v", info, err)
	}
}

// TestUnwritableDecisions: a file that cannot be written costs no pull.
func TestUnwritableDecisions(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		return r.Base() + "decisions: {file: key.pub/decisions.jsonl}\n" + rig.SignedByKey
	})
	for range 3 {
		if status := r.Pull(t, "signed/manifests/latest"); status != http.StatusOK {
			t.Errorf("signed: %d", status)
		}
		if status := r.Pull(t, "unsigned/manifests/latest"); status != http.StatusForbidden {
			t.Errorf("unsigned: %d", status)
		}
	}
	for range 500 {
		_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
		if strings.Contains(metrics, `pullgate_decisions_dropped_total{reason="write_failed"} 6`) {
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

// TestExportedDecisions: with decisions.to: otlp a collector gets each line.
func TestExportedDecisions(t *testing.T) {
	got := &logReceiver{}
	server := httptest.NewServer(got)
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", server.URL+"/v1/logs")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		return r.Base() + "decisions: {to: otlp}\n" + rig.SignedByKey
	})
	id := decisionOf(t, r, "unsigned/manifests/latest")
	recorded(t, r, id) // memory answers
	for range 500 {
		got.mu.Lock()
		bodies := slices.Clone(got.bodies)
		got.mu.Unlock()
		if len(bodies) > 0 {
			var r decisions.Record
			if err := json.Unmarshal([]byte(bodies[0]), &r); err != nil || r.ID != id || r.Outcome != "denied" {
				t.Errorf("sent %s", bodies[0])
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("nothing was sent within 5 s")
}

// TestExportWithoutReceiver: without an address in the environment, otlp is a
// mistake that ends the start.
func TestExportWithoutReceiver(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	file := rig.Write(t, t.TempDir(), "pullgate.yaml", "listen: 127.0.0.1:0\nadmin: {listen: \"127.0.0.1:0\"}\n"+
		"upstreams: [{host: docker.io}]\ndecisions: {to: otlp}\n")
	code, out := commandExit(t, "serve", "--config", file)
	if code != exit.CouldNotTell || !strings.Contains(out, "OTEL_EXPORTER_OTLP_ENDPOINT") {
		t.Errorf("exit %d: %s", code, out)
	}
}
