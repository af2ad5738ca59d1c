package policy

import (
	"strings"
	"testing"
)

// An attacker who may push a signature writes the names in its certificate, and
// each is put to every expression before any of it is verified.
func TestPatternLength(t *testing.T) {
	t.Parallel()
	p, err := ParsePattern("a+")
	if err != nil {
		t.Fatal(err)
	}
	if !p.Match(strings.Repeat("a", maxMatched)) || p.Match(strings.Repeat("a", maxMatched+1)) {
		t.Errorf("texts of up to %d bytes match, longer ones do not", maxMatched)
	}
}
