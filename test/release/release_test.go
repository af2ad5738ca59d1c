// Package release checks .goreleaser.yaml with goreleaser's own reader. It is a
// module of its own, because goreleaser requires as much as everything else
// together.
package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goreleaser/goreleaser/v2/pkg/config"
)

const root = "../.."

// TestReleaseConfiguration: goreleaser knows every key, and every file that it
// packs is there or made by the hooks before.
func TestReleaseConfiguration(t *testing.T) {
	project, err := config.Load(filepath.Join(root, ".goreleaser.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	b := project.Builds[0]
	if got := strings.Join(b.Goos, " ") + " " + strings.Join(b.Goarch, " "); got != "linux darwin amd64 arm64" {
		t.Errorf("built for %s", got)
	}
	var sources []string
	for _, f := range project.Archives[0].Files {
		sources = append(sources, f.Source)
	}
	for _, c := range project.NFPMs[0].Contents {
		if c.Type != "dir" {
			sources = append(sources, c.Source)
		}
	}
	if len(sources) < 10 {
		t.Errorf("only %d files are packed", len(sources))
	}
	for _, s := range sources {
		if _, err := os.Stat(filepath.Join(root, s)); err != nil && !strings.HasPrefix(s, "build/") {
			t.Errorf("%s is packed, and is not there", s)
		}
	}

	t.Run("a mistyped key is found", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(root, ".goreleaser.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		wrong := strings.Replace(string(text), "mod_timestamp:", "mod_timestmp:", 1)
		if _, err := config.LoadReader(strings.NewReader(wrong)); err == nil {
			t.Error("it passes")
		}
	})
}
