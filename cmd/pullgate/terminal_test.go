package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/node"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
)

// steer is what a terminal would obey.
const steer = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e"

// checkHarmless fails if printed has anything that a terminal would obey.
func checkHarmless(t *testing.T, printed string) {
	t.Helper()
	for line := range strings.SplitSeq(printed, "\n") {
		if show.Printable(line) != line {
			t.Errorf("%q", printed)
		}
	}
}

// TestTerminal: words of other people are shown, and never obeyed by the terminal
// they are printed on.
func TestTerminal(t *testing.T) {
	t.Run("image name", func(t *testing.T) {
		_, err := imagename.Parse("ghcr.io/a" + steer + "\nx")
		if err == nil {
			t.Fatal("that is no image name")
		}
		checkHarmless(t, err.Error())
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("a name makes a line of its own: %q", err)
		}
	})
	t.Run("errors", func(t *testing.T) {
		var out bytes.Buffer
		show.Error(&out, errors.Join(fmt.Errorf("first %s", steer), errors.New("second")))
		checkHarmless(t, out.String())
		if !strings.HasSuffix(out.String(), "\nsecond\n") {
			t.Errorf("two errors are not two lines: %q", out.String())
		}
	})
	t.Run("problem", func(t *testing.T) {
		var out bytes.Buffer
		at := policy.Position{File: "a" + steer, Line: 1}
		show.Problems(&out, []policy.Problem{at.Problem("%s", "b\n"+steer)})
		checkHarmless(t, out.String())
		if strings.Count(out.String(), "\n") != 1 {
			t.Errorf("one problem is not one line: %q", out.String())
		}
	})
	t.Run("runtime", func(t *testing.T) {
		var out bytes.Buffer
		err := printFindings(&out, []node.Finding{{
			Runtime: "podman",
			Outcome: node.Bypassed,
			Command: "podman pull",
			Output:  "one\r\ntwo " + steer + "\n",
		}})
		if err != nil {
			t.Fatal(err)
		}
		checkHarmless(t, out.String())
	})
	t.Run("import", testImportedTerminal)
}

func testImportedTerminal(t *testing.T) {
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
	checkHarmless(t, stderr.String()) // what is lost
	checkHarmless(t, stdout.String()) // the policies
	file := filepath.Join(dir, "policies.yaml")
	if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems := policy.Load(policy.Input{Dir: dir, Files: []string{"policies.yaml"}}); len(problems) > 0 {
		t.Errorf("what import printed does not load: %v", problems)
	}
}
