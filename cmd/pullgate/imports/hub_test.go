package imports

import (
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// Docker Hub has other names in the sources than here, and a pattern whose host
// has a wildcard may match one and not the other.
func TestDockerHub(t *testing.T) {
	const key = `{data: "-----BEGIN PUBLIC KEY-----\n` +
		`MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/EluMntL32twQOVLY0YwfgMl4HFu\n` +
		`Z6NKnqBzvR45dFduVsghcKqLPj4R3Lu0tK4dv1JQEvnNwAO1nJavqrb3Og==\n` +
		`-----END PUBLIC KEY-----\n"}`
	cluster := func(glob string) string {
		return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec:\n" +
			"  images: [{glob: \"" + glob + "\"}]\n  authorities: [{key: " + key + "}]\n"
	}

	kyverno := func(pattern string) string {
		return "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\nspec:\n" +
			"  validationFailureAction: Enforce\n  rules: [{name: r, verifyImages: [{imageReferences: [\"" + pattern +
			"\"], attestors: [{entries: [{keyless: {issuer: \"https://i.example\", subject: a@b.example}}]}]}]}]\n"
	}

	talos := func(pattern, what string) string {
		return "apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules: [{image: \"" +
			pattern + "\", " + what + "}]\n"
	}

	for name, c := range map[string]struct {
		format, text string
		image        string // that the policy decides about; "": refused
	}{
		"a domain":                 {"clusterimagepolicy", cluster("*.docker.io/**"), ""},
		"any domain":               {"clusterimagepolicy", cluster("index.*/**"), ""},
		"any host of io":           {"clusterimagepolicy", cluster("*.io/**"), "docker.io/library/nginx"},
		"any host below something": {"clusterimagepolicy", cluster("**.docker.io/**"), ""},
		"Docker Hub": {
			"clusterimagepolicy",
			cluster("index.docker.io/**"),
			"docker.io/library/nginx",
		},
		"another domain":               {"clusterimagepolicy", cluster("*.r.example/**"), "a.r.example/x"},
		"Kyverno, a domain":            {"kyverno", kyverno("*.docker.io/*"), ""},
		"Kyverno, an official image":   {"kyverno", kyverno("docker.io/nginx:*"), "docker.io/library/nginx"},
		"Kyverno, of any host of io":   {"kyverno", kyverno("*.io/nginx:*"), "docker.io/library/nginx"},
		"Kyverno, of any host":         {"kyverno", kyverno("*/nginx*"), "docker.io/library/nginx"},
		"Kyverno, beginning so":        {"kyverno", kyverno("d*/nginx*"), ""},
		"Talos, Docker Hub":            {"talos", talos("index.docker.io/*", "deny: true"), "docker.io/library/nginx"},
		"Talos, a domain":              {"talos", talos("*.docker.io/*", "deny: true"), ""},
		"Talos, never matches: denied": {"talos", talos("docker.io/*", "deny: true"), "docker.io/library/nginx"},
		"Talos, never matches: passed": {"talos", talos("docker.io/*", "skip: true"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			result := Convert(c.format, []File{{"f", []byte(c.text)}})
			if c.image == "" {
				if len(result.Problems) == 0 {
					t.Errorf("was carried:\n%s", result.YAML)
				}
				return
			}

			for _, problem := range result.Problems {
				t.Fatal(problem)
			}

			repository, err := policy.ParseRepository(c.image)
			if err != nil {
				t.Fatal(err)
			}
			p := load(t, result.YAML).For(repository, "sha256:"+strings.Repeat("a", 64), policy.Client{})
			if p.Name == defaultName {
				t.Errorf("%s is decided by the default action\n%s", c.image, result.YAML)
			}
		})
	}
}
