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
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
)

// TestHostileTextOnTheTerminal: what somebody else wrote is shown, and never
// obeyed by the terminal it is printed on.
func TestHostileTextOnTheTerminal(t *testing.T) {
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
	_, err := imagename.Parse("ghcr.io/a" + steer + "\nx")
	if err == nil {
		t.Fatal("that is no image name")
	}
	harmlessOn("parseImage", err.Error())
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("a name makes a line of its own: %q", err)
	}
	var out bytes.Buffer
	show.Error(&out, errors.Join(fmt.Errorf("first %s", steer), errors.New("second")))
	harmlessOn("an error", out.String())
	if !strings.HasSuffix(out.String(), "\nsecond\n") {
		t.Errorf("two errors are not two lines: %q", out.String())
	}
	out.Reset()
	show.Problems(&out, []policy.Problem{policy.Position{File: "a" + steer, Line: 1}.Problem("%s", "b\n"+steer)})
	harmlessOn("a problem", out.String())
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("one problem is not one line: %q", out.String())
	}
	out.Reset()
	if err := printFindings(&out, []finding{{
		Runtime: "podman",
		Outcome: bypassed,
		Command: "podman pull",
		Output:  "one\r\ntwo " + steer + "\n",
	}}, false); err != nil {
		t.Fatal(err)
	}
	harmlessOn("what a runtime printed", out.String())

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
	harmlessOn("import's losses", stderr.String())
	harmlessOn("import's policies", stdout.String())
	file := filepath.Join(dir, "policies.yaml")
	if err := os.WriteFile(file, stdout.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, problems := policy.Load(policy.Input{Dir: dir, Files: []string{"policies.yaml"}}); len(problems) > 0 {
		t.Errorf("what import printed does not load: %v", problems)
	}
}
