package lint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/policy"
)

func TestIdentities(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		authority string
		want      string // empty: nothing to say
	}{
		"one address": {
			`keyless: {identities: [{issuer: "https://i.example", subject: a@acme.example}]}`,
			"",
		},
		"addresses of one host": {
			`keyless: {identities: [{issuer: "https://i.example", subjectRegExp: '[a-z]+@acme\.example'}]}`,
			"",
		},
		"anybody": {
			`keyless: {identities: [{issuer: "https://i.example", subjectRegExp: '.*'}]}`,
			"everybody with an account",
		},
		"anybody, spelt out": {
			`keyless: {identities: [{issuer: "https://i.example", subjectRegExp: '[^ ]+'}]}`,
			"everybody with an account",
		},
		"any host": {
			`keyless: {identities: [{issuer: "https://i.example", subjectRegExp: '.+/acme/app/.+'}]}`,
			"any host",
		},
		"any provider": {
			`keyless: {identities: [{issuerRegExp: '.*', subject: a@acme.example}]}`,
			"anybody can run",
		},
		"any claim": {
			`keyless: {identities: [{issuer: "https://i.example", claims: {sourceRepositoryURI: '.*'}}]}`,
			"everybody with an account",
		},
		"a claim": {
			`keyless: {identities: [{issuer: "https://i.example", claims: {sourceRepositoryURI: ` +
				`'https://gitlab\.example/acme/.*'}}]}`,
			"",
		},
		"a workflow":             {`github: {owner: acme, workflow: .github/workflows/release.yml}`, ""},
		"any workflow":           {`github: {owner: acme}`, "names no workflow"},
		"any workflow of a repo": {`github: {repository: acme/app}`, "names no workflow"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pullgate.yaml")
			text := "upstreams: [{host: a.example}]\npolicies:\n  - name: p\n    images: ['a.example/**']\n" +
				"    authorities:\n      - " + tt.authority + "\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, problems := config.Read(file, nil)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			policies, problems := policy.Load(c.PolicyInput())
			if len(problems) > 0 {
				t.Fatal(problems)
			}

			var all []string
			for _, p := range Check(c, policies) {
				all = append(all, p.String())
			}
			got := strings.Join(all, "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
