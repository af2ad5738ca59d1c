package main

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// TestCheck: a good configuration is counted, and of a bad one every problem has its
// place.
func TestCheck(t *testing.T) {
	t.Parallel()
	var out, errs bytes.Buffer
	_, key := rig.KeyPair(t)
	dir := t.TempDir()
	rig.Write(t, dir, "a.pub", key)
	good := rig.Write(
		t,
		dir,
		"good.yaml",
		"upstreams: [{host: a.example}]\npolicies: [{name: x, images: ['a.example/**'], authorities: [{key: "+
			"a.pub}]}]\n",
	)
	if err := run(t.Context(), []string{"check", "--config", good}, &out, &errs); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if !strings.Contains(out.String(), "1 policy") {
		t.Errorf("it says %q", out.String())
	}
	bad := rig.Write(t, dir, "bad.yaml", "mode: off\nupstreams: [{host: a.example}]\npolicies: [{name: x}]\n")
	err := run(t.Context(), []string{"check", "--config", bad}, &out, &errs)
	if exit.Code(err) != exit.Denied {
		t.Fatalf("bad configuration: %v", err)
	}
	for _, line := range []int{1, 3} {
		if want := bad + ":" + strconv.Itoa(line) + ":"; !strings.Contains(errs.String(), want) {
			t.Errorf("no problem at %s in\n%s", want, errs.String())
		}
	}
}

// TestCheckStrict: what is allowed but weak is named, and nothing else is.
func TestCheckStrict(t *testing.T) {
	t.Parallel()
	_, key := rig.KeyPair(t)
	dir := t.TempDir()
	rig.Write(t, dir, "a.pub", key)
	const upstream = "upstreams: [{host: a.example}]\n"
	const ban = "policies: [{name: x, images: ['a.example/b'], static: deny}]\n"
	policy := func(text string) string { return upstream + "policies: [{name: x, " + text + "}]\n" }

	for _, row := range []struct{ name, text, want string }{
		{"a key", policy("images: ['a.example/**'], authorities: [{key: a.pub}]"), ""},
		{"an exemption", policy("images: ['a.example/b'], static: allow, expires: 2099-01-01"), ""},
		{"a ban", policy("images: ['a.example/b'], static: deny"), ""},
		{"no end", policy("images: ['a.example/b'], static: allow"), "has no end"},
		{"all of a host", policy("images: ['a.example/**'], static: allow, expires: 2099-01-01"), "is no policy"},
		{"all hosts", policy("images: ['**'], static: allow, expires: 2099-01-01"), "is no policy"},
		{"some hosts", policy("images: ['*.example/b'], authorities: [{key: a.pub}]"), "matches hosts by a pattern"},
		{"warn", policy("images: ['a.example/b'], mode: warn, authorities: [{key: a.pub}]"), "has no end"},
		{"warn for all", upstream + "mode: warn\n", "refuses nothing"},
		{"default", upstream + "defaultAction: allow\n", "whatever no policy matches"},
		{"listener", upstream + "listen: 0.0.0.0:5000\n", "not loopback"},
		{"http", "upstreams: [{host: a.example, url: 'http://b.example'}]\n", "plain http"},
		{"http at 127.0.0.1", "upstreams: [{host: a.example, url: 'http://127.0.0.1:5050'}]\n" + ban, ""},
		{"http at localhost", "upstreams: [{host: a.example, url: 'http://localhost:5050'}]\n" + ban, ""},
		{"no policies", upstream, "there are no policies"},
		{"another registry", policy("images: ['b.example/**'], static: deny"), "never decides"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			file := rig.Write(t, dir, "c.yaml", row.text)
			err := run(t.Context(), []string{"check", "--strict", "--config", file}, &out, &errs)
			if (err == nil) != (row.want == "") || !strings.Contains(errs.String(), row.want) {
				t.Errorf("%v, says %q; want %q", err, errs.String(), row.want)
			}
		})
	}
}

// TestIdle: what has no effect is warned of, and the configuration is fine.
func TestIdle(t *testing.T) {
	t.Parallel()
	const upstreams = "upstreams: [{host: a.example}, {host: 'b.example:5001'}]\n"
	for name, c := range map[string]struct{ text, want string }{
		"no policies": {upstreams, "there are no policies: defaultAction (deny) decides about every image"},
		"an empty list": {
			upstreams + "defaultAction: allow\npolicies: []\n",
			":3: there are no policies: defaultAction (allow) decides",
		},
		"a canary alone": {upstreams + "canary: a.example/canary:v1\n", "there are no policies"},
		"another registry": {
			upstreams + "policies: [{name: x, images: ['c.example/**', 'd.example/e'], static: deny}]\n",
			`:2: policy "x" never decides: none of its registries is among the upstreams (c.example, d.example)`,
		},
		"one of two": {
			upstreams + "policies: [{name: x, images: ['c.example/**', 'a.example/**'], static: deny}]\n",
			`policy "x": c.example/** never matches`,
		},
		"an upstream": {upstreams + "policies: [{name: x, images: ['a.example/**'], static: deny}]\n", ""},
		"a port":      {upstreams + "policies: [{name: x, images: ['b.example:5001/**'], static: deny}]\n", ""},
		"a wildcard":  {upstreams + "policies: [{name: x, images: ['*.example/**'], static: deny}]\n", ""},
		"digests": {
			upstreams + "policies: [{name: x, digests: ['sha256:" + strings.Repeat("a", 64) + "'], static: deny}]\n",
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			file := rig.Write(t, t.TempDir(), "c.yaml", c.text)
			if err := run(t.Context(), []string{"check", "--config", file}, &out, &errs); err != nil {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			if c.want == "" && errs.String() != "" || !strings.Contains(errs.String(), c.want) {
				t.Errorf("says %q, want %q", errs.String(), c.want)
			}
			if !strings.Contains(out.String(), ": fine: ") {
				t.Errorf("prints %q", out.String())
			}
		})
	}
}

// TestDocumentedConfigurations: what the README and the example show is not weak. The
// days on which their exemptions end are moved, because they come.
func TestDocumentedConfigurations(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, quick, found := strings.Cut(string(readme), "```yaml\n# pullgate.yaml\n")
	if quick, _, _ = strings.Cut(quick, "\n```"); !found {
		t.Fatal("the README shows no configuration")
	}
	_, key := rig.KeyPair(t)

	for name, text := range map[string]string{"README": quick, "example": string(example)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			rig.Write(t, dir, "cosign.pub", key)
			text = regexp.MustCompile(`expires: [0-9]{4}`).ReplaceAllString(text, "expires: 2999")
			file := rig.Write(t, dir, "pullgate.yaml", text)
			if code, out := commandExit(t, "check", "--strict", "--config", file); code != 0 {
				t.Errorf("exit %d: %s", code, out)
			}
		})
	}
}
