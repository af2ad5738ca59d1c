package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestManual: there is a page for every command that the help lists, the texts'
// tables keep their lines, and writing twice writes the same.
func TestManual(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	first, second := filepath.Join(t.TempDir(), "man1"), t.TempDir()
	for _, dir := range []string{first, second} {
		if err := run(t.Context(), []string{"man", dir}, &bytes.Buffer{}, &bytes.Buffer{}); err != nil {
			t.Fatal(err)
		}
	}

	for _, name := range []string{"pullgate.1", "pullgate-serve.1", "pullgate-man.1", "pullgate-completion-bash.1"} {
		one, err := os.ReadFile(filepath.Join(first, name))
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(filepath.Join(second, name))
		if err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s differs from time to time: %v", name, err)
		}
	}

	var help bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, &help, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(help.String(), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if _, err := os.Stat(filepath.Join(first, "pullgate-"+name+".1")); err != nil && name != "help" {
			t.Errorf("no page for %s", name)
		}
	}

	page, err := os.ReadFile(filepath.Join(first, "pullgate-doctor.1"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n  BYPASSED    the pull succeeded") {
		t.Errorf("the table is one paragraph:\n%s", page)
	}
}

func TestVersionJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version", "--json"}, &out, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}

	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if got["version"] == "" || got["go"] != runtime.Version() || got["os"] != runtime.GOOS ||
		got["arch"] != runtime.GOARCH {
		t.Errorf("%v", got)
	}
}
