package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImport(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	runImport := func(args ...string) (stdout, stderr string, err error) {
		var out, errs bytes.Buffer
		err = run(t.Context(), append([]string{"import"}, args...), &out, &errs)
		return out.String(), errs.String(), err
	}

	good := file("talos.yaml", "apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules: [{image: 'ghcr.io/*', deny: true}]\n")
	stdout, stderr, err := runImport("talos", good)
	if err != nil || !strings.Contains(stdout, "static: deny") || !strings.Contains(stderr, "talos.yaml:3: rules: an image that no rule matches") {
		t.Errorf("%v\n%s%s", err, stdout, stderr)
	}
	file("imported.yaml", stdout)
	config := file("pullgate.yaml", "upstreams: [{host: ghcr.io}]\npolicyFiles: [imported.yaml]\n")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"check", "--config", config}, &out, &out); err != nil {
		t.Errorf("what was imported is refused: %v\n%s", err, out.String())
	}

	bad := file("bad.yaml", "apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules: [{image: 'ghcr.io/*'}]\n")
	for _, args := range [][]string{{"talos", bad}, {"talos", filepath.Join(dir, "missing.yaml")}, {"nonsense", good}, {"talos", good, bad}} {
		stdout, stderr, err := runImport(args...)
		var exit *exitError
		if !errors.As(err, &exit) || exit.code != exitDenied || stdout != "" {
			t.Errorf("%v: %v\n%s%s", args, err, stdout, stderr)
		}
	}
}
