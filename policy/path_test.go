package policy

import (
	"regexp"
	"strings"
	"testing"
)

// The distribution spec's own grammar, which ValidPath is written after.
var specPath = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)

func FuzzValidPath(f *testing.F) {
	for _, seed := range []string{
		"",
		"a",
		"library/nginx",
		"a.b_c__d--e/f",
		"a_-b",
		"a..b",
		"a/",
		"/a",
		"a//b",
		"A",
		"a.",
		".a",
		"a___b",
		"a-_b",
		"a/-b",
		"é",
		"a\x00b",
		strings.Repeat("a", 256),
	} {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, path string) {
		if want := len(path) <= 255 && specPath.MatchString(path); ValidPath(path) != want {
			t.Errorf("%q: %v, the spec says %v", path, !want, want)
		}
	})
}
