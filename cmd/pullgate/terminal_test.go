package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

// TestHostileRuntimeOutput: what a runtime printed is shown, and never
// obeyed by the terminal it is printed on.
func TestHostileRuntimeOutput(t *testing.T) {
	const steer = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e"
	harmlessOn := func(what, printed string) {
		t.Helper()
		if i := strings.IndexFunc(
			printed,
			func(r rune) bool { return r != '\n' && show.Printable(string(r)) != string(r) },
		); i >= 0 {
			t.Errorf("%s: %q", what, printed)
		}
	}
	var out bytes.Buffer
	if err := printFindings(&out, []finding{{
		Runtime: "podman",
		Outcome: bypassed,
		Command: "podman pull",
		Output:  "one\r\ntwo " + steer + "\n",
	}}, false); err != nil {
		t.Fatal(err)
	}
	harmlessOn("what a runtime printed", out.String())
}
