package imports

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// A policy of Kyverno has one action, whichever of its rules says so. Where any of
// them denies, no entry becomes a warning.
func TestFailureAction(t *testing.T) {
	entry := func(repository, more string) string {
		return fmt.Sprintf(
			`{imageReferences: ["r.example/%s:*"], %sattestors: [{entries: [{keyless: {issuer: `+
				`"https://i.example", subject: a@b.example}}]}]}`,
			repository,
			more,
		)
	}

	for name, c := range map[string]struct {
		said, rules string
		enforced    bool
	}{
		"the first entry": {
			"",
			`{name: r, verifyImages: [` + entry("a", "failureAction: Enforce, ") + `, ` + entry("b", "") + `]}`,
			true,
		},
		"the second says less": {
			"",
			`{name: r, verifyImages: [` + entry("a", "failureAction: Enforce, ") + `, ` +
				entry("b", "failureAction: Audit, ") + `]}`,
			true,
		},
		"another rule": {
			"",
			`{name: r, verifyImages: [` + entry("a", "failureAction: Enforce, ") + `]}, {name: s, verifyImages: [` +
				entry("b", "") + `]}`,
			true,
		},
		"a rule about something": {
			"",
			`{name: r, validate: {failureAction: Enforce, message: m}}, {name: s, verifyImages: [` +
				entry("a", "") + `, ` + entry("b", "") + `]}`,
			true,
		},
		"in a namespace": {
			"",
			`{name: r, validate: {failureActionOverrides: [{action: enforce, namespaces: [prod]}]}}, {name: s, ` +
				`verifyImages: [` + entry("a", "") + `, ` + entry("b", "") + `]}`,
			true,
		},
		"the policy, less below": {
			"validationFailureAction: Enforce, ",
			`{name: r, verifyImages: [` + entry("a", "") + `, ` + entry("b", "failureAction: Audit, ") + `]}`,
			true,
		},
		"nothing": {
			"",
			`{name: r, verifyImages: [` + entry("a", "") + `, ` + entry("b", "") + `]}`,
			false,
		},
		"all audit": {
			"validationFailureAction: Enforce, ",
			`{name: r, verifyImages: [` + entry("a", "failureAction: Audit, ") + `, ` +
				entry("b", "failureAction: Audit, ") + `]}`,
			false,
		},
		"the policy audits": {
			"validationFailureAction: Audit, ",
			`{name: r, verifyImages: [` + entry("a", "") + `, ` + entry("b", "") + `]}`,
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec: {" +
				c.said + "rules: [" + c.rules + "]}\n"
			result := Convert("kyverno", []File{{"f", []byte(text)}})
			for _, problem := range result.Problems {
				t.Fatal(problem)
			}

			set := load(t, result.YAML)
			for _, path := range []string{"a", "b"} {
				repository := policy.Repository{Host: "r.example", Path: path}
				p := set.For(repository, "sha256:"+strings.Repeat("a", 64), policy.Client{})
				if (p.Mode != policy.Warn) != c.enforced {
					t.Errorf("%s is enforced: %t\n%s", path, p.Mode != policy.Warn, result.YAML)
				}
			}
		})
	}
}

// Talos demands a log's entry of every signature, also of one by a key.
func TestTalosLog(t *testing.T) {
	for _, p := range load(t, convert(t, "testdata/talos.yaml").YAML).Policies() {
		for _, a := range p.Authorities {
			if len(a.Keys) > 0 && !a.TransparencyLog {
				t.Errorf("%q admits a signature that is in no log", p.Name)
			}
		}
	}
}
