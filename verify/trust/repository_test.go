package trust

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/tufrepo"
)

// policies is a set whose one policy trusts an identity of the root.
func policies(t *testing.T, r *tufrepo.Repository) *policy.Set {
	t.Helper()
	return policiesFrom(t, r, "mirror: "+r.URL)
}

func policiesFrom(t *testing.T, r *tufrepo.Repository, where string) *policy.Set {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.json"), r.Root, 0o600); err != nil {
		t.Fatal(err)
	}
	return load(t, dir, `
trustRoots:
  - {name: corp, tuf: {`+where+`, root: root.json}}
policies:
  - name: p
    images: ["reg.example/**"]
    authorities:
      - keyless: {trustRoots: [corp], identities: [{issuer: "https://issuer.example", subject: dev@acme.example}]}
`)
}

func load(t *testing.T, dir, text string) *policy.Set {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "p.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Load(policy.Input{ConfigFile: "config.yaml", Dir: dir, Files: []string{"p.yaml"}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}
