package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/proxy"
)

// replayJSON runs replay and decodes what it prints.
func replayJSON(t *testing.T, want int, args ...string) comparison {
	t.Helper()
	code, out := commandExit(t, append([]string{"replay", "--json"}, args...)...)
	if code != want {
		t.Fatalf("exit %d, want %d:\n%s", code, want, out)
	}
	var c comparison
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&c); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return c
}

// From warn to enforce: what was pulled under warn is listed before it breaks;
// a platform's manifest follows its signed index, by whatever it was asked.
func TestReplayFromWarnToEnforce(t *testing.T) {
	t.Parallel()
	r := startRig(t, func(r *rig) string {
		writeIn(t, r.dir, "key.pub", r.key)
		return r.base() + "mode: warn\n" + signedByKey
	})
	for range 3 {
		r.pull(t, "unsigned/manifests/latest")
	}
	r.pull(t, "signed/manifests/latest")
	_, index := get(t, "http://"+r.gate+"/v2/demo.example/multi/manifests/latest")
	child := between(index, `"digest":"`, `"`)
	r.pull(t, "multi/manifests/"+child)
	r.pull(t, "unsigned/blobs/sha256:"+strings.Repeat("0", 64)) // admitted by warn, of nothing known
	r.recorded(t, r.decisionOf(t, "multi/manifests/latest"))
	file := filepath.Join(r.dir, "pullgate-state", "decisions.jsonl")

	enforcing := strings.ReplaceAll(r.config, "mode: warn\n", "")
	enforce := writeIn(t, r.dir, "enforce.yaml", enforcing)
	c := replayJSON(t, exit.Denied, "--config", enforce, "--decisions", file)
	if len(c.Refused) != 1 || len(c.Admitted)+len(c.Untold)+len(c.Warned) != 0 || c.Same != 3 || c.Images != 4 ||
		c.UnknownParts+c.Errors != 1 {
		t.Fatalf("%+v", c)
	}
	if u := c.Refused[0]; !strings.HasPrefix(u.Image, "demo.example/unsigned@sha256:") || u.Was != "warned" ||
		u.Now != "denied" ||
		u.Requests != 3 ||
		u.Clients != 1 ||
		u.Tags[0] != "latest" {
		t.Errorf("%+v", u)
	}
	// Nothing changes but the mode: the same list, as a warning.
	warn := writeIn(t, r.dir, "warn.yaml", r.config)
	if c := replayJSON(t, 0, "--config", warn, "--decisions", file); len(c.Warned) != 1 || c.Same != 3 {
		t.Errorf("%+v", c)
	}
	// Another key: the index is refused, and its platform with it, which is not listed on its own.
	_, other := publicKey(t)
	writeIn(t, r.dir, "other.pub", other)
	c = replayJSON(
		t,
		exit.Denied,
		"--config",
		writeIn(t, r.dir, "other.yaml", strings.ReplaceAll(enforcing, "key.pub", "other.pub")),
		"--decisions",
		file,
	)
	if len(c.Refused) != 3 || c.Same != 0 {
		t.Fatalf("%+v", c)
	}
	for _, one := range c.Refused {
		if strings.Contains(one.Image, "/multi@") != (one.Parts == 1) || strings.Contains(one.Image, child) {
			t.Errorf("%+v", one)
		}
	}
	// The platform alone: its record says which index to ask for first.
	var lines []string
	for _, line := range linesOf(t, file) {
		if d, ok := decodeDecision([]byte(line)); ok && d.Digest == child {
			lines = append(lines, line)
		}
	}
	alone := writeIn(t, r.dir, "child.jsonl", strings.Join(lines, "\n"))
	if c := replayJSON(t, 0, "--config", enforce, "--decisions", alone); c.Same != 1 || c.Images != 1 {
		t.Errorf("%+v", c)
	}
}

// What was refused and would be admitted; what cannot be told is never passed
// off as one or the other.
func TestReplayTheOtherWay(t *testing.T) {
	t.Parallel()
	reg := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	defer reg.Close()
	private, public := publicKey(t)
	addr := strings.TrimPrefix(reg.URL, "http://")
	if _, err := demo.PushImages(t.Context(), addr, private, signDemo); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeIn(t, dir, "key.pub", public)
	config := writeIn(
		t,
		dir,
		"pullgate.yaml",
		"upstreams: [{host: demo.example, url: \"http://"+addr+"\"}, {host: down.example, url: "+
			"\"http://127.0.0.1:1\"}]\n"+
			"policies: [{name: keyed, images: [\"demo.example/**\", \"down.example/**\"], authorities: [{name: k, "+
			"key: key.pub}]}]\n",
	)
	line := func(n int, change func(d *proxy.Decision)) string {
		d := someDecision(n)
		d.Image, d.Reference, d.Digest, d.Parent, d.Outcome = "demo.example/signed", "latest", "", "", "denied"
		change(&d)
		return string(appendDecision(nil, &d))
	}
	gone := "sha256:" + strings.Repeat("0", 64)
	file := writeIn(t, dir, "decisions.jsonl", "no decision\n"+
		line(1, func(*proxy.Decision) {})+ // nobody had looked: judged by its tag
		line(2, func(d *proxy.Decision) { d.Client = "10.0.0.8" })+
		line(3, func(d *proxy.Decision) { d.Image = "demo.example/unsigned" })+
		line(4, func(d *proxy.Decision) { d.Image, d.Outcome = "down.example/app", "allowed" })+
		line(5, func(d *proxy.Decision) { d.Digest, d.Outcome = gone, "allowed" })+
		line(6, func(d *proxy.Decision) { d.Image, d.Outcome = "other.example/app", "warned" })+
		line(7, func(d *proxy.Decision) { d.Outcome, d.Status = "error", 503 })+
		line(8, func(d *proxy.Decision) { d.Reference = "../../x" })+
		line(9, func(d *proxy.Decision) { d.Image = "not a name" }))
	c := replayJSON(t, exit.Denied, "--config", config, "--decisions", file)
	if len(c.Admitted) != 1 || c.Admitted[0].Requests != 2 || c.Admitted[0].Clients != 2 ||
		c.Admitted[0].Image != "demo.example/signed:latest" {
		t.Errorf("admitted %+v", c.Admitted)
	}
	if len(c.Untold) != 2 || c.Untold[0].Error == "" || c.Untold[1].Error == "" {
		t.Errorf("untold %+v", c.Untold)
	}
	if len(c.Refused) != 1 || c.Refused[0].Image != "other.example/app:latest" ||
		c.Refused[0].Policy != "defaultAction" {
		t.Errorf("refused %+v", c.Refused)
	}
	if c.Same != 1 || c.Errors != 1 || c.Unreadable != 3 {
		t.Errorf("%+v", c)
	}
	lines := linesOf(t, file)
	untold := writeIn(t, dir, "untold.jsonl", lines[4]+"\n")
	if code, out := commandExit(
		t,
		"replay",
		"--config",
		config,
		"--decisions",
		untold,
	); code != exit.CouldNotTell ||
		!strings.Contains(out, "could not be told: 1") {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, nothing := range []string{writeIn(t, dir, "empty.jsonl", ""), filepath.Join(dir, "missing.jsonl")} {
		if code, out := commandExit(
			t,
			"replay",
			"--config",
			config,
			"--decisions",
			nothing,
		); code != exit.CouldNotTell ||
			strings.HasSuffix(strings.TrimSpace(out), ";") {
			t.Errorf("%s: exit %d: %s", nothing, code, out)
		}
	}
}

// Lines that nobody recorded neither hide a refusal nor keep replay busy.
func TestReplayOfForgedParents(t *testing.T) {
	t.Parallel()
	a, b := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	served := httptest.NewServer(http.NotFoundHandler())
	defer served.Close()
	dir := t.TempDir()
	config := writeIn(t, dir, "pullgate.yaml", "upstreams: [{host: demo.example, url: \""+served.URL+"\"}]\n")
	text := ""
	for n, pair := range [][2]string{{a, b}, {b, a}} {
		d := someDecision(n)
		d.Image, d.Digest, d.Parent, d.Outcome = "demo.example/app", pair[0], pair[1], "allowed"
		text += string(appendDecision(nil, &d))
	}
	c := replayJSON(t, exit.Denied, "--config", config, "--decisions", writeIn(t, dir, "d.jsonl", text))
	if len(c.Refused) != 2 {
		t.Errorf("%+v", c)
	}
}

// A thousand images cost one gate, and no client's budget.
func TestReplayOfMany(t *testing.T) {
	t.Parallel()
	asked := httptest.NewServer(http.NotFoundHandler())
	defer asked.Close()
	dir := t.TempDir()
	config := writeIn(
		t,
		dir,
		"pullgate.yaml",
		"upstreams: [{host: demo.example, url: \""+asked.URL+"\"}]\ndefaultAction: allow\nlimits: {clientMisses: 10}\n",
	)
	f, err := os.Create(filepath.Join(dir, "d.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		d := someDecision(n)
		d.Image, d.Digest, d.Parent, d.Reference = "demo.example/app", "", "", d.ID
		if _, err := f.Write(appendDecision(nil, &d)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c := replayJSON(t, exit.CouldNotTell, "--config", config, "--decisions", f.Name())
	for _, one := range c.Untold {
		if strings.Contains(one.Error, "budget") || strings.Contains(one.Error, "clientMisses") ||
			!strings.Contains(one.Error, "404") {
			t.Fatalf("%+v", one)
		}
	}
	if len(c.Untold) != 200 {
		t.Errorf("%d untold", len(c.Untold))
	}
}
