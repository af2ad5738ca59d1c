package test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestPinnedActions: a workflow names what it runs by commit, because those who take
// over an action move its tags (CVE-2025-30066).
func TestPinnedActions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../.github/workflows/*.y*ml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses:\s*(\S+)`)
	pinned := regexp.MustCompile(`^(\./\S*|[\w.-]+(/[\w.-]+)+@[0-9a-f]{40})$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range uses.FindAllStringSubmatch(string(text), -1) {
			if !pinned.MatchString(found[1]) {
				t.Errorf("%s: %s is named by what can be moved", file, found[1])
			}
		}
	}
}
