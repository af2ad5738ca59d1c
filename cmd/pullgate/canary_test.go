package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// TestMakeCanary: what doctor pushes is an image for several platforms, never over
// another one, and the gate refuses it once it is named.
func TestMakeCanary(t *testing.T) {
	t.Parallel()
	addr, _ := rig.Registry(t)
	image := addr + "/acme/canary:v1"
	code, out := commandExit(t, "doctor", "--make-canary", image)
	if code != 0 || !strings.Contains(out, "`canary: "+image+"`") {
		t.Fatalf("exit %d: %s", code, out)
	}
	status, index := rig.Get(t, "http://"+addr+"/v2/acme/canary/manifests/v1")
	for _, want := range []string{`"amd64"`, `"arm64"`} {
		if status != http.StatusOK || !strings.Contains(index, want) {
			t.Errorf("%d, without %s: %s", status, want, index)
		}
	}

	for name, row := range map[string]struct{ image, want string }{
		"there already": {image, "there is an image"},
		"digest":        {addr + "/acme/canary@sha256:" + strings.Repeat("0", 64), "is named by a tag"},
		"no name":       {"http://" + addr, "is no image name"},
		"no registry":   {"127.0.0.1:1/acme/canary:v1", "look for"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, out := commandExit(t, "doctor", "--make-canary", row.image); code != exit.CouldNotTell ||
				!strings.Contains(out, row.want) {
				t.Errorf("exit %d, want %q: %s", code, row.want, out)
			}
		})
	}
}

func TestVersionFlag(t *testing.T) {
	t.Parallel()
	_, flag := commandExit(t, "--version")
	_, verb := commandExit(t, "version")
	if flag != verb || !strings.HasPrefix(flag, "pullgate ") {
		t.Errorf("%q, and version says %q", flag, verb)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"node-config ":    "containerd",
		"doctor ":         "nerdctl",
		"import ":         "kyverno",
		"sign --format ":  "legacy",
		"check --config ": "yaml",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			_, out := commandExit(t, append([]string{"__complete"}, strings.Split(args, " ")...)...)
			if !strings.Contains(out, want+"\n") {
				t.Errorf("%q is not among\n%s", want, out)
			}
		})
	}
}

// TestWrittenNodeFilesTold: --write says what it has written, and what it has not.
func TestWrittenNodeFilesTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	command := []string{"node-config", "podman", "--gate", "http://127.0.0.1:5000", "--write", dir}
	for _, want := range []string{
		"wrote " + filepath.Join(dir, "etc/containers/registries.conf.d/900-pullgate.conf") + "\n",
		"left alone what is there already: 1 file\n",
	} {
		if code, out := commandExit(t, command...); code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q:\n%s", code, want, out)
		}
	}
}
