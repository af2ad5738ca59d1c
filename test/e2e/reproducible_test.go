package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// TestReproducibleBuild: two builds of the same source are equal, byte by byte,
// although they are made in different folders, from files of different times, and
// by compilers that share no cache. The flags are those of .goreleaser.yaml.
func TestReproducibleBuild(t *testing.T) {
	if os.Getenv("PULLGATE_E2E") != "1" {
		t.Skip("it compiles everything anew")
	}

	first := buildIn(t, filepath.Join(t.TempDir(), "a"), "")
	second := buildIn(t, filepath.Join(t.TempDir(), "another", "folder"), t.TempDir())

	if !bytes.Equal(first, second) {
		t.Errorf("the programs differ: %d and %d bytes", len(first), len(second))
	}
	if !bytes.Contains(first, []byte("v1.2.3-reproducible")) {
		t.Error("the version is not in the program")
	}
}

// releaseFlags are the flags that a release is built with.
func releaseFlags(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../.goreleaser.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var release struct {
		Builds []struct {
			Flags   []string `yaml:"flags"`
			LDFlags []string `yaml:"ldflags"`
		} `yaml:"builds"`
	}
	if err := yaml.Unmarshal(text, &release); err != nil || len(release.Builds) != 1 {
		t.Fatalf("%v: %+v", err, release)
	}

	linked := strings.NewReplacer("{{ .Tag }}", "v1.2.3-reproducible", "{{ .FullCommit }}", "0123456789abcdef").
		Replace(strings.Join(release.Builds[0].LDFlags, " "))
	if strings.Contains(linked, "{{") || !strings.Contains(linked, "v1.2.3-reproducible") {
		t.Fatalf("linked with %s", linked)
	}
	return append(release.Builds[0].Flags, "-ldflags", linked)
}

// buildIn builds a copy of the source in dir, with a cache of its own if one is
// named.
func buildIn(t *testing.T, dir, cache string) []byte {
	t.Helper()
	for _, part := range []string{"cmd", "policy", "proxy", "verify"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS("../../"+part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile("../../" + part)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, part), string(text))
	}
	if cache != "" { // the second folder is older, too
		long := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(dir, "cmd", "pullgate", "main.go"), long, long); err != nil {
			t.Fatal(err)
		}
	}

	build := exec.Command(
		"go",
		append(append([]string{"build"}, releaseFlags(t)...), "-o", "program", "./cmd/pullgate")...)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if cache != "" {
		build.Env = append(build.Env, "GOCACHE="+cache)
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	program, err := os.ReadFile(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	return program
}
