package imports

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// A trust root that stood for two CAs would have to hold both, and each could
// make the identities that were asked of the other.
func TestTrustRoots(t *testing.T) {
	keyless := func(ca string) string {
		return `{"type": "sigstoreSigned", "fulcio": {"caPath": "/etc/pki/` +
			ca + `.pem", "oidcIssuer": "https://i.example", "subjectEmail": "a@b.example"}, "rekorPublicKeyPath": ` +
			`"/etc/pki/rekor.pub"}`
	}

	kyverno := func(rootsA, rootsB string) string {
		entry := func(roots string) string {
			return `{keyless: {issuer: "https://i.example", subject: a@b.example, roots: "` + roots + `"}}`
		}
		return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n" +
			"  validationFailureAction: Enforce\n" +
			"  rules: [{name: r, verifyImages: [{imageReferences: [\"r.example/*\"], attestors: [{count: 1, " +
			"entries: [" + entry(rootsA) + ", " + entry(rootsB) + "]}]}]}]\n"
	}

	imagePolicy := func(rootsA, rootsB string) string {
		attestor := func(name, roots string) string {
			return `{name: ` + name + `, cosign: {keyless: {identities: [{issuer: "https://i.example", subject: ` +
				`a@b.example}], roots: "` + roots + `"}}}`
		}
		return "apiVersion: policies.kyverno.io/v1\nkind: ImageValidatingPolicy\nmetadata: {name: p}\nspec:\n" +
			"  matchImageReferences: [{glob: \"r.example/*\"}]\n" +
			"  attestors: [" + attestor("a", rootsA) + ", " + attestor("b", rootsB) + "]\n" +
			"  validations: [{expression: \"images.containers.map(image, verifyImageSignatures(image, " +
			"[attestors.a, attestors.b])).all(e, e > 0)\"}]\n"
	}

	for name, c := range map[string]struct {
		format, text string
		want         int
	}{
		"two scopes": {
			"policy.json",
			`{"default": [{"type": "reject"}], "transports": {"docker": {"r.example/a/b": [` +
				keyless("one") + `], "r.example/a-b": [` + keyless("two") + `]}}}`,
			2,
		},
		"two requirements":   {"policy.json", `{"default": [` + keyless("one") + `, ` + keyless("two") + `]}`, 2},
		"the same twice":     {"policy.json", `{"default": [` + keyless("one") + `]}`, 1},
		"Kyverno, two CAs":   {"kyverno", kyverno("one", "two"), 2},
		"Kyverno, one CA":    {"kyverno", kyverno("one", "one"), 1},
		"policies', two CAs": {"kyverno", imagePolicy("one", "two"), 2},
		"policies', one CA":  {"kyverno", imagePolicy("one", "one"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			result := Convert(c.format, []File{{"f", []byte(c.text)}})
			for _, problem := range result.Problems {
				t.Fatal(problem)
			}

			var output struct {
				TrustRoots []struct{ Name, File string } `yaml:"trustRoots"`
			}
			if err := yaml.Unmarshal(result.YAML, &output); err != nil {
				t.Fatal(err)
			}
			files := map[string]bool{}
			for _, root := range output.TrustRoots {
				files[root.Name] = true
				files[root.File] = true
			}
			if len(files) != 2*c.want {
				t.Errorf("trust roots %v, want %d\n%s", output.TrustRoots, c.want, result.YAML)
			}
		})
	}
}
