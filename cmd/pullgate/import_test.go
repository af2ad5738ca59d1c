package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
)

// TestImportSources: a device without end is not read into memory, and a pipe is
// not waited for.
func TestImportSources(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pipe, "/dev/zero", t.TempDir()} {
		done := make(chan error, 1)
		go func() {
			var out bytes.Buffer
			done <- run(t.Context(), []string{"import", "kyverno", name}, &out, &out)
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "regular file") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s is still being read", name)
		}
	}
}

// TestHostileImport: what a file and its name say is shown, and not obeyed by the
// terminal it is printed on.
func TestHostileImport(t *testing.T) {
	const steer = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e"
	harmless := func(what, printed string) {
		t.Helper()
		if strings.ContainsFunc(printed, func(r rune) bool {
			return r != '\n' && show.Printable(string(r)) != string(r)
		}) {
			t.Errorf("%s: %q", what, printed)
		}
	}

	dir := t.TempDir()
	source := filepath.Join(dir, "p.yaml")
	key := "{keyless: {identities: [{issuer: \"https://i.example\", subject: a@b.example}]}, attestations: [{name: " +
		"x, predicateType: \"https://slsa.dev/provenance/v1\"}]}"
	text := "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\n" +
		"metadata: {name: p, labels: {a: b}}\nspec: {images: [{glob: \"r.example/x*:*\"}], authorities: [" +
		key + "]}\n"
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	hostile := filepath.Join(dir, "p"+steer+".yaml")
	if err := os.Rename(source, hostile); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	if err := run(t.Context(), []string{"import", "clusterimagepolicy", hostile}, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	harmless("import's losses", stderr.String())
	harmless("import's policies", stdout.String())
	file := filepath.Join(dir, "policies.yaml")
	if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems := policy.Load(policy.Input{Dir: dir, Files: []string{"policies.yaml"}}); len(problems) > 0 {
		t.Errorf("what import printed does not load: %v", problems)
	}
}
