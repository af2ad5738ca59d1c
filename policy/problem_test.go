package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func problemsOf(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, problems := Load(Input{ConfigFile: "config.yaml", Dir: dir, Files: []string{"p.yaml"}})
	var all strings.Builder
	for _, p := range problems {
		all.WriteString(p.String() + "\n")
	}
	return all.String()
}

// Problems are logged, and none repeats the password of a mirror.
func TestMirrorPassword(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"an address": "https://robot:hunter2@tuf.example",
		"no address": "https://robot:hunter2@tuf.example:x y",
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(
				t,
				"policies: []\ntrustRoots: [{name: corp, tuf: {mirror: \""+address+"\", root: root.json}}]\n",
			)
			if !strings.Contains(got, "mirror must be") || strings.Contains(got, "hunter2") {
				t.Errorf("said:\n%s", got)
			}
		})
	}
}

// Fields have no order: one without effect is found before and behind the field
// that leaves it without.
func TestIgnoredEvidence(t *testing.T) {
	t.Parallel()
	const who = `keyless: {identities: [{issuer: "https://i.example", subject: a@b.example}]}`
	for name, authority := range map[string]string{
		"behind": who + ", transparencyLog: ignore",
		"before": "transparencyLog: ignore, " + who,
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(
				t,
				"policies: [{name: p, images: [\"reg.example/**\"], authorities: [{"+authority+"}]}]\n",
			)
			if !strings.Contains(got, "is the trust root's to say") {
				t.Errorf("%s: %q", authority, got)
			}
		})
	}
}
