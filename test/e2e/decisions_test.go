package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWarnReplayEnforce walks docs/cookbook.md: a gate in warn mode, what it
// recorded, what enforcing would break, and the refusal that is explained by
// the id in its answer.
func TestWarnReplayEnforce(t *testing.T) {
	need(t, "crane")
	registry := startDistribution(t)
	key, public := keyPair(t)
	signed := pushIndex(t, registry+"/team/signed:v1", 1<<10)
	signers["v3 bundle"](t, key, registry+"/team/signed@"+signed)
	unsigned := pushIndex(t, registry+"/team/unsigned:v1", 1<<10)
	g := startGateWith(t, registry, "", "mode: warn\n    "+signedBy(public))
	pull := startCrane(t, g)
	for _, image := range []string{"team/signed:v1", "team/unsigned:v1"} {
		if out, err := pull(t, image); err != nil {
			t.Fatalf("pull %s under warn: %v\n%s", image, err, out)
		}
	}
	waitRecorded(t, g, "reg.test/team/unsigned@"+unsigned)

	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	enforce := writeFile(
		t,
		filepath.Join(filepath.Dir(g.config), "enforce.yaml"),
		strings.Replace(string(text), "mode: warn", "mode: enforce", 1),
	)
	// The gate goes on meanwhile: replay reads what it writes.
	out, err := run(t, binary(t), "replay", "--config", enforce)
	if exitCode(t, err) != 1 {
		t.Errorf("replay: %v\n%s", err, out)
	}
	for _, want := range []string{
		"were pulled, and would be refused: 1\n  reg.test/team/unsigned@" + unsigned + " (v1)\n    warned -> denied",
		"no signature found",
		"could not be told: 0",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("replay does not say %q:\n%s", want, out)
		}
	}
	signers["v2 legacy"](t, key, registry+"/team/unsigned@"+unsigned)
	if out, err := run(
		t,
		binary(t),
		"replay",
		"--config",
		enforce,
		"--decisions",
		filepath.Join(filepath.Dir(g.config), "pullgate-state", "decisions.jsonl"),
		"--json",
	); exitCode(t, err) != 0 ||
		!strings.Contains(out, `"refused": []`) {
		t.Errorf("replay once it is signed: %v\n%s", err, out)
	}

	pushIndex(t, registry+"/team/late:v1", 1<<10)
	g.kill(t) // what was recorded a moment ago is on disk
	g.config = enforce
	g.up(t)
	resp, err := http.Get("http://" + g.addr + "/v2/reg.test/team/late/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	id := resp.Header.Get("Pullgate-Decision")
	if resp.StatusCode != http.StatusForbidden || id == "" {
		t.Fatalf("%s, decision %q", resp.Status, id)
	}
	waitRecorded(t, g, "reg.test/team/late:v1")
	for _, how := range [][]string{
		{id, "--config", enforce},
		{id, "--admin", "http://" + g.admin},
		{"reg.test/team/late:v1", "--config", enforce},
	} {
		out, err = run(t, binary(t), append([]string{"explain"}, how...)...)
		if exitCode(t, err) != 1 || !strings.Contains(out, "denied by policy \"signed\"") ||
			!strings.Contains(out, "no signature found") ||
			!strings.Contains(out, id) {
			t.Errorf("explain %v: %v\n%s", how, err, out)
		}
	}
	if out, err := run(
		t,
		binary(t),
		"explain",
		"reg.test/team/signed:v1",
		"--config",
		enforce,
	); exitCode(t, err) != 0 ||
		!strings.Contains(out, "allowed") {
		t.Errorf("explain what was pulled before the restart: %v\n%s", err, out)
	}
}

// TestFullDisk: a disk without room for decisions costs no pull, leaves no half
// of a line, and is written again when there is room.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	need(t, "mount", "umount")
	registry := startGGCR(t)
	_, public := keyPair(t)
	pushIndex(t, registry+"/team/unsigned:v1", 1<<10)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", disk); err != nil {
		lacking(t, "it needs to mount a small disk: "+out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	file, filler := filepath.Join(disk, "decisions.jsonl"), filepath.Join(disk, "filler")
	writeFile(t, filler, strings.Repeat("x", 64<<10))
	g := startGateWith(t, registry, "", signedBy(public)+"\ndecisions: {file: "+file+"}")
	dropped := func() bool {
		resp, err := http.Get("http://" + g.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(string(text), `pullgate_decisions_dropped_total{reason="write_failed"} 0`)
	}
	pulls := 0
	refuse := func() {
		resp, err := http.Get("http://" + g.addr + "/v2/reg.test/team/unsigned/manifests/v1")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if pulls++; resp.StatusCode != http.StatusForbidden {
			t.Fatalf("pull %d: %s", pulls, resp.Status)
		}
	}
	for !dropped() {
		if pulls > 5000 {
			t.Fatal("5000 decisions do not fill the disk")
		}
		for range 20 {
			refuse()
		}
	}
	full := newlines(t, file)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); newlines(t, file) <= full; time.Sleep(20 * time.Millisecond) {
		if refuse(); time.Since(began) > 20*time.Second {
			t.Fatal("nothing is written once there is room again")
		}
	}
	g.stop(t, syscall.SIGTERM)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !json.Valid([]byte(line)) || !strings.HasSuffix(line, "\n") {
			t.Fatalf("half a line: %q", line)
		}
	}
}

func newlines(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

// waitRecorded waits until the gate answers decisions about an image.
func waitRecorded(t *testing.T, g *gate, image string) {
	t.Helper()
	for range 500 {
		resp, err := http.Get("http://" + g.admin + "/decisions?image=" + image)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct{ Decisions []json.RawMessage }
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(answer.Decisions) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no decision about %s within 5 s", image)
}
