package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/replay"
	"github.com/pullgate/pullgate/test/rig"
)

// recordLine returns the line of a denial of demo.example/signed:latest, whose
// digest was not looked for, after change has made another record of it.
func recordLine(t *testing.T, n int, change func(r *decisions.Record)) string {
	t.Helper()
	r := decisions.Record{
		Time:      time.Date(2026, 11, 24, 10, 0, n%60, 0, time.UTC),
		ID:        fmt.Sprintf("%026d", n),
		Client:    "10.0.0.7",
		Method:    "GET",
		Kind:      "manifest",
		Image:     "demo.example/signed",
		Reference: "latest",
		Outcome:   "denied",
		Status:    403,
		Policy:    "prod",
		Reasons:   []decisions.Reason{{Authority: "release", Reason: "no signature found"}},
	}
	change(&r)
	line, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// replayJSON runs replay and decodes what it prints.
func replayJSON(t *testing.T, want int, args ...string) replay.Comparison {
	t.Helper()
	code, out := commandExit(t, append([]string{"replay", "--json"}, args...)...)
	if code != want {
		t.Fatalf("exit %d, want %d:\n%s", code, want, out)
	}
	var c replay.Comparison
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&c); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return c
}

// TestReplayEnforced: what was pulled under mode: warn is listed before it breaks; a
// platform's manifest follows its signed index, by whatever it was asked.
func TestReplayEnforced(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		return r.Base() + "mode: warn\n" + rig.SignedByKey
	})
	for range 3 {
		r.Pull(t, "unsigned/manifests/latest")
	}
	r.Pull(t, "signed/manifests/latest")
	_, index := rig.Get(t, "http://"+r.Gate+"/v2/demo.example/multi/manifests/latest")
	child := rig.Between(index, `"digest":"`, `"`)
	r.Pull(t, "multi/manifests/"+child)
	r.Pull(t, "unsigned/blobs/sha256:"+strings.Repeat("0", 64)) // admitted by warn, of nothing known
	recorded(t, r, decisionOf(t, r, "multi/manifests/latest"))

	file := filepath.Join(r.Dir, "pullgate-state", "decisions.jsonl")
	enforcing := strings.ReplaceAll(r.Config, "mode: warn\n", "")
	enforce := rig.Write(t, r.Dir, "enforce.yaml", enforcing)

	t.Run("enforced", func(t *testing.T) {
		c := replayJSON(t, exit.Denied, "--config", enforce, "--decisions", file)
		if len(c.Refused) != 1 || len(c.Admitted)+len(c.Undecided)+len(c.Warned) != 0 ||
			c.Same != 3 || c.Images != 4 || c.UnknownParts+c.Errors != 1 {
			t.Fatalf("%+v", c)
		}
		u := c.Refused[0]
		if !strings.HasPrefix(u.Image, "demo.example/unsigned@sha256:") || u.Tags[0] != "latest" ||
			u.Was != "warned" || u.Now != "denied" || u.Requests != 3 || u.Clients != 1 {
			t.Errorf("%+v", u)
		}
	})
	t.Run("unchanged", func(t *testing.T) { // the same list, as a warning
		warn := rig.Write(t, r.Dir, "warn.yaml", r.Config)
		if c := replayJSON(t, 0, "--config", warn, "--decisions", file); len(c.Warned) != 1 || c.Same != 3 {
			t.Errorf("%+v", c)
		}
	})
	t.Run("another key", func(t *testing.T) {
		_, other := rig.KeyPair(t)
		rig.Write(t, r.Dir, "other.pub", other)
		config := rig.Write(t, r.Dir, "other.yaml", strings.ReplaceAll(enforcing, "key.pub", "other.pub"))
		c := replayJSON(t, exit.Denied, "--config", config, "--decisions", file)
		if len(c.Refused) != 3 || c.Same != 0 {
			t.Fatalf("%+v", c)
		}
		// The index is refused, and its platform with it, which is not listed on its own.
		for _, one := range c.Refused {
			if strings.Contains(one.Image, "/multi@") != (one.Parts == 1) || strings.Contains(one.Image, child) {
				t.Errorf("%+v", one)
			}
		}
	})
	t.Run("platform alone", func(t *testing.T) { // its record says which index to ask for first
		var lines []string
		for _, line := range linesOf(t, file) {
			var r decisions.Record
			if err := json.Unmarshal([]byte(line), &r); err == nil && r.Digest == child {
				lines = append(lines, line)
			}
		}
		alone := rig.Write(t, r.Dir, "child.jsonl", strings.Join(lines, "\n"))
		if c := replayJSON(t, 0, "--config", enforce, "--decisions", alone); c.Same != 1 || c.Images != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestReplayDenied: what was refused and would be admitted is listed; what cannot be
// told is never passed off as one or the other.
func TestReplayDenied(t *testing.T) {
	t.Parallel()
	reg := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	defer reg.Close()
	private, public := rig.KeyPair(t)
	addr := strings.TrimPrefix(reg.URL, "http://")
	if _, err := demo.PushImages(t.Context(), addr, private); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	rig.Write(t, dir, "key.pub", public)
	config := rig.Write(t, dir, "pullgate.yaml",
		"upstreams: [{host: demo.example, url: \"http://"+addr+"\"}, "+
			"{host: down.example, url: \"http://127.0.0.1:1\"}]\n"+
			"policies: [{name: keyed, images: [\"demo.example/**\", \"down.example/**\"], "+
			"authorities: [{name: k, key: key.pub}]}]\n")
	gone := "sha256:" + strings.Repeat("0", 64)
	text := "no decision\n"
	for n, change := range []func(r *decisions.Record){
		func(*decisions.Record) {}, // nothing was looked for: judged by its tag
		func(r *decisions.Record) { r.Client = "10.0.0.8" },
		func(r *decisions.Record) { r.Image = "demo.example/unsigned" },
		func(r *decisions.Record) { r.Image, r.Outcome = "down.example/app", "allowed" },
		func(r *decisions.Record) { r.Digest, r.Outcome = gone, "allowed" },
		func(r *decisions.Record) { r.Image, r.Outcome = "other.example/app", "warned" },
		func(r *decisions.Record) { r.Outcome, r.Status = "error", 503 },
		func(r *decisions.Record) { r.Reference = "../../x" },
		func(r *decisions.Record) { r.Image = "not a name" },
	} {
		text += recordLine(t, n+1, change)
	}
	file := rig.Write(t, dir, "decisions.jsonl", text)

	c := replayJSON(t, exit.Denied, "--config", config, "--decisions", file)
	if len(c.Admitted) != 1 || c.Admitted[0].Requests != 2 || c.Admitted[0].Clients != 2 ||
		c.Admitted[0].Image != "demo.example/signed:latest" {
		t.Errorf("admitted %+v", c.Admitted)
	}
	if len(c.Undecided) != 2 || c.Undecided[0].Error == "" || c.Undecided[1].Error == "" {
		t.Errorf("undecided %+v", c.Undecided)
	}
	if len(c.Refused) != 1 || c.Refused[0].Image != "other.example/app:latest" ||
		c.Refused[0].Policy != "defaultAction" {
		t.Errorf("refused %+v", c.Refused)
	}
	if c.Same != 1 || c.Errors != 1 || c.Unreadable != 3 {
		t.Errorf("%+v", c)
	}

	t.Run("undecided", func(t *testing.T) {
		undecided := rig.Write(t, dir, "undecided.jsonl", linesOf(t, file)[4]+"\n")
		code, out := commandExit(t, "replay", "--config", config, "--decisions", undecided)
		if code != exit.CouldNotTell || !strings.Contains(out, "could not be told: 1") {
			t.Errorf("exit %d: %s", code, out)
		}
	})
	for name, nothing := range map[string]string{
		"empty":   rig.Write(t, dir, "empty.jsonl", ""),
		"missing": filepath.Join(dir, "missing.jsonl"),
	} {
		t.Run(name, func(t *testing.T) {
			code, out := commandExit(t, "replay", "--config", config, "--decisions", nothing)
			if code != exit.CouldNotTell || strings.HasSuffix(strings.TrimSpace(out), ";") {
				t.Errorf("exit %d: %s", code, out)
			}
		})
	}
}

// TestReplayForgedParents: lines that no gate has written neither hide a refusal nor
// keep replay busy.
func TestReplayForgedParents(t *testing.T) {
	t.Parallel()
	served := httptest.NewServer(http.NotFoundHandler())
	defer served.Close()
	dir := t.TempDir()
	config := rig.Write(t, dir, "pullgate.yaml", "upstreams: [{host: demo.example, url: \""+served.URL+"\"}]\n")

	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	text := ""
	for n, pair := range [][2]string{{a, b}, {b, a}} {
		text += recordLine(t, n, func(r *decisions.Record) {
			r.Digest, r.Parent, r.Outcome = pair[0], pair[1], "allowed"
		})
	}
	c := replayJSON(t, exit.Denied, "--config", config, "--decisions", rig.Write(t, dir, "d.jsonl", text))
	if len(c.Refused) != 2 {
		t.Errorf("%+v", c)
	}
}

// TestReplayMany: two hundred images cost one gate, and no client's budget.
func TestReplayMany(t *testing.T) {
	t.Parallel()
	asked := httptest.NewServer(http.NotFoundHandler())
	defer asked.Close()
	dir := t.TempDir()
	config := rig.Write(t, dir, "pullgate.yaml", "upstreams: [{host: demo.example, url: \""+asked.URL+"\"}]\n"+
		"defaultAction: allow\nlimits: {clientMisses: 10}\n")
	var text strings.Builder
	for n := range 200 {
		text.WriteString(recordLine(t, n, func(r *decisions.Record) { r.Reference = r.ID }))
	}

	file := rig.Write(t, dir, "d.jsonl", text.String())
	c := replayJSON(t, exit.CouldNotTell, "--config", config, "--decisions", file)
	for _, one := range c.Undecided {
		if strings.Contains(one.Error, "budget") || strings.Contains(one.Error, "clientMisses") ||
			!strings.Contains(one.Error, "404") {
			t.Fatalf("%+v", one)
		}
	}
	if len(c.Undecided) != 200 {
		t.Errorf("%d undecided", len(c.Undecided))
	}
}
