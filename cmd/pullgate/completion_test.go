package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/rig"
)

// complete returns what a shell is told after these words.
func complete(t *testing.T, words ...string) []string {
	t.Helper()
	var out, errs bytes.Buffer
	if err := run(t.Context(), append([]string{"__complete"}, words...), &out, &errs); err != nil {
		t.Fatal(err)
	}

	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[:len(lines)-1] // the last is a directive
}

func TestImageCompletion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := rig.Write(t, dir, "pullgate.yaml", "upstreams: [{host: ghcr.io}, {host: r.example:5000}]\n")
	record(t, dir, "ghcr.io/acme/app", "v2", "manifest")
	record(t, dir, "ghcr.io/acme/app", "v1", "manifest")
	record(t, dir, "ghcr.io/acme/app", "v1", "manifest")
	record(t, dir, "ghcr.io/acme/app", "sha256:"+strings.Repeat("0", 64), "manifest")
	record(t, dir, "ghcr.io/acme/layers", "x", "blob")
	record(t, dir, "ghcr.io/acme/$(reboot)", "v1", "manifest")
	record(t, dir, "ghcr.io/acme/app", "v1;reboot", "manifest")
	record(t, dir, "ghcr.io/acme/app", `v1\nghcr.io/other`, "manifest")
	empty := rig.Write(t, t.TempDir(), "pullgate.yaml", "upstreams: [{host: ghcr.io}, {host: r.example:5000}]\n")
	torn := rig.Write(t, t.TempDir(), "pullgate.yaml", "upstreams: [\n")

	for name, row := range map[string]struct {
		words []string
		want  []string
	}{
		"runtimes": {
			[]string{"node-config", ""},
			[]string{"buildkit", "containerd", "cri-o", "docker", "k3s", "podman", "rke2", "talos"},
		},
		"formats": {
			[]string{"import", "k"}, []string{"clusterimagepolicy", "kyverno", "policy.json", "talos"},
		},
		"formats of signature": {[]string{"sign", "--format", ""}, []string{"bundle", "legacy"}},
		"images": {
			[]string{"verify", "-c", file, "ghcr"}, []string{"ghcr.io/acme/app:v1", "ghcr.io/acme/app:v2"},
		},
		"images to explain": {
			[]string{"explain", "-c", file, ""}, []string{"ghcr.io/acme/app:v1", "ghcr.io/acme/app:v2"},
		},
		"images to warm":     {[]string{"warm", "-c", file, "ghcr.io/acme/app:v2"}, []string{"ghcr.io/acme/app:v2"}},
		"hosts":              {[]string{"verify", "-c", empty, "r"}, []string{"r.example:5000/"}},
		"torn configuration": {[]string{"verify", "-c", torn, ""}, nil},
		"no configuration":   {[]string{"verify", "-c", dir + "/none", ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := complete(t, row.words...)
			slices.Sort(got)
			if !slices.Equal(got, row.want) {
				t.Errorf("%q, not %q", got, row.want)
			}
		})
	}
}

// record adds a line to the record of decisions beside the state of the
// configuration in dir.
func record(t *testing.T, dir, image, reference, kind string) {
	t.Helper()
	if err := os.MkdirAll(dir+"/pullgate-state", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(dir+"/pullgate-state/decisions.jsonl", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	const line = `{"time":"2026-01-01T00:00:00Z","id":"AAAAAAAAAAAAAAAAAAAAAAAAAA","client":"c","method":"GET",` +
		`"kind":"%s","image":"%s","reference":"%s","outcome":"denied","status":403}` + "\n"
	if _, err := fmt.Fprintf(f, line, kind, image, reference); err != nil {
		t.Fatal(err)
	}
}
