package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/node"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

// TestHostileRuntimeOutput: what a runtime printed is shown, and never obeyed by
// the terminal it is printed on.
func TestHostileRuntimeOutput(t *testing.T) {
	var out bytes.Buffer
	err := printFindings(&out, []node.Finding{{
		Runtime: "podman",
		Outcome: node.Bypassed,
		Command: "podman pull",
		Output:  "one\r\ntwo \x1b]0;owned\a\x1b[2J\u009b31m\u202e\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		if show.Printable(line) != line {
			t.Errorf("%q", line)
		}
	}
}
