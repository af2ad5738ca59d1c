package imports

import (
	"os"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// TestWidenings: what admits more here than in the source is listed, of each
// format, in the output and beside it.
func TestWidenings(t *testing.T) {
	const (
		bundles  = "a Sigstore bundle, found as a referrer, counts as well"
		legacy   = "a signature under the .sig or .att tag counts as well"
		children = "a platform image gets in by its signed index"
	)
	change := func(file, old, text string) string {
		source, err := os.ReadFile("testdata/fields/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(source), old) {
			t.Fatalf("%s has no %q", file, old)
		}
		return strings.Replace(string(source), old, text, 1)
	}

	for name, c := range map[string]struct {
		format, text string
		want         []string
		not          string
	}{
		"policy-controller": {
			"clusterimagepolicy", change("cip-keyless.yaml", "", ""), []string{bundles, children}, legacy,
		},
		"its bundles": {
			"clusterimagepolicy",
			change("cip-keyless.yaml", "- keyless:", "- signatureFormat: bundle\n      keyless:"),
			[]string{legacy, children},
			bundles,
		},
		"its legacy": {
			"clusterimagepolicy",
			change("cip-keyless.yaml", "- keyless:", "- signatureFormat: legacy\n      keyless:"),
			[]string{bundles, children},
			legacy,
		},
		"Kyverno": {"kyverno", change("kyverno-cp.yaml", "", ""), []string{bundles, children}, legacy},
		"Kyverno's bundles": {
			"kyverno",
			change("kyverno-cp.yaml", "imageReferences:", "type: SigstoreBundle\n          imageReferences:"),
			[]string{legacy, children},
			bundles,
		},
		"Kyverno's newer": {"kyverno", change("kyverno-ivp.yaml", "", ""), []string{bundles, children}, legacy},
		"policy.json":     {"policy.json", change("policy-key.yaml", "", ""), []string{bundles}, children},
		"Talos":           {"talos", change("talos-rule.yaml", "", ""), []string{children}, bundles},
	} {
		t.Run(name, func(t *testing.T) {
			result := Convert(c.format, []File{{"f", []byte(c.text)}})
			for _, problem := range result.Problems {
				t.Fatal(problem)
			}

			var losses strings.Builder
			for _, loss := range result.Losses {
				losses.WriteString(loss.Message + "\n")
			}
			for _, want := range c.want {
				if want = "WEAKER: " + want; !strings.Contains(losses.String(), want) ||
					!strings.Contains(string(result.YAML), want) {
					t.Errorf("nothing says %q:\n%s%s", want, losses.String(), result.YAML)
				}
			}
			if strings.Contains(losses.String(), c.not) {
				t.Errorf("%q is said:\n%s", c.not, losses.String())
			}
		})
	}
}

// TestOwnSignatures: containers/image asks each platform image for a signature
// of its own, so the index admits none of them here.
func TestOwnSignatures(t *testing.T) {
	result := convert(t, "testdata/policy.json")
	verifying := 0
	for _, p := range load(t, result.YAML).Policies() {
		if p.OwnChildren != (p.Static == policy.Verify) {
			t.Errorf("%q: own signatures %t", p.Name, p.OwnChildren)
		}
		if p.Static == policy.Verify {
			verifying++
		}
	}
	if verifying != 3 {
		t.Errorf("%d policies verify", verifying)
	}
	if !strings.Contains(string(result.YAML), "an index has to be signed as well") {
		t.Errorf("nothing says that the index is asked too:\n%s", result.YAML)
	}
}
