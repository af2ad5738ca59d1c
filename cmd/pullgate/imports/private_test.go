package imports

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestPrivateSigstore imports authorities whose CA, log and timestamps are not
// Sigstore's public ones: they come in as one trust root, which is listed as
// something to be made, or the problem says what to write.
func TestPrivateSigstore(t *testing.T) {
	policyOf := func(authority string) string {
		return "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec:\n" +
			"  images: [{glob: \"r.example/**\"}]\n  authorities: [" + authority + "]\n"
	}
	rootOf := func(name, spec string) string {
		return "---\napiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\n" +
			"metadata: {name: " + name + "}\nspec: " +
			spec + "\n"
	}
	const identities = `identities: [{issuer: "https://i.example", subject: a@b.example}]`
	const keys = "{sigstoreKeys: {}}"

	for name, c := range map[string]struct {
		text string
		root string // the one trust root; "": a problem
		says string // by a loss, or by the problem
	}{
		"a CA and a log by address": {
			policyOf(
				`{keyless: {url: "https://fulcio.b.example", ` + identities + `}, ` +
					`ctlog: {url: "https://rekor.b.example"}}`,
			),
			"fulcio.b.example",
			"of https://fulcio.b.example and https://rekor.b.example together",
		},
		"a CA by address": {
			policyOf(`{keyless: {url: "https://fulcio.b.example", ` + identities + `}}`),
			"fulcio.b.example",
			"has to be made, as fulcio.b.example.trusted_root.json, of https://fulcio.b.example (",
		},
		"a log by address": {
			policyOf(`{keyless: {` + identities + `}, ctlog: {url: "https://rekor.b.example"}}`),
			"rekor.b.example",
			"of https://rekor.b.example (",
		},
		"the public log beside a CA": {
			policyOf(
				`{keyless: {url: "https://fulcio.b.example", ` + identities + `}, ` +
					`ctlog: {url: "https://rekor.sigstore.dev"}}`,
			),
			"fulcio.b.example",
			"https://rekor.sigstore.dev together",
		},
		"a certificate and a log": {
			policyOf(`{keyless: {ca-cert: {data: x}, ` + identities + `}, ctlog: {url: "https://rekor.b.example"}}`),
			"rekor.b.example",
			"of the certificate written here and https://rekor.b.example together",
		},
		"a TrustRoot without its document": {
			policyOf(`{keyless: {trustRootRef: corp, ` + identities + `}}`),
			"",
			`f:6: spec.authorities[0].keyless.trustRootRef: names the TrustRoot "corp", which is in none of the files`,
		},
		"a log's TrustRoot without": {
			policyOf(`{key: {kms: "gcpkms://a"}, ctlog: {trustRootRef: corp}}`),
			"",
			`f:6: spec.authorities[0].ctlog.trustRootRef: names the TrustRoot "corp"`,
		},
		"a timestamp's TrustRoot without": {
			policyOf(`{key: {kms: "gcpkms://a"}, rfc3161timestamp: {trustRootRef: corp}}`) + rootOf("other", keys),
			"",
			`f:6: spec.authorities[0].rfc3161timestamp.trustRootRef: names the TrustRoot "corp"`,
		},
		"a TrustRoot": {
			policyOf(`{keyless: {trustRootRef: corp, `+identities+`}, ctlog: {trustRootRef: corp}}`) +
				rootOf("corp", keys),
			"corp",
			"as corp.trusted_root.json, of the TrustRoot of that name",
		},
		"a TrustRoot before": {
			rootOf("corp", keys) + "---\n" + policyOf(`{keyless: {trustRootRef: corp, `+identities+`}}`),
			"corp",
			"as corp.trusted_root.json",
		},
		"a TrustRoot with a mirror": {
			policyOf(`{keyless: {trustRootRef: corp, `+identities+`}}`) +
				rootOf("corp", `{remote: {mirror: "https://tuf.b.example", root: x}}`),
			"corp",
			"tuf: {mirror: https://tuf.b.example, root: FILE}",
		},
		"two TrustRoots": {
			policyOf(`{keyless: {trustRootRef: one, `+identities+`}, ctlog: {trustRootRef: two}}`) +
				rootOf("one", keys) + rootOf("two", keys),
			"",
			"names one and two: an authority has one trust root here",
		},
		"a TrustRoot and an address": {
			policyOf(`{keyless: {trustRootRef: one, `+identities+`}, ctlog: {url: "https://rekor.b.example"}}`) +
				rootOf("one", keys),
			"",
			"names one and https://rekor.b.example: an authority has one trust root here",
		},
		"a TrustRoot and the public log": {
			policyOf(`{keyless: {trustRootRef: one, `+identities+`}, ctlog: {url: "https://rekor.sigstore.dev"}}`) +
				rootOf("one", keys),
			"",
			"name it as trustRootRef in keyless, ctlog",
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := Convert("clusterimagepolicy", []File{{"f", []byte(c.text)}})
			var said strings.Builder
			for _, p := range append(result.Losses, result.Problems...) {
				said.WriteString(p.String() + "\n")
			}
			if !strings.Contains(said.String(), c.says) {
				t.Errorf("says nothing of %q:\n%s", c.says, said.String())
			}
			if (c.root == "") != (result.YAML == nil) {
				t.Fatalf("printed %q\n%s", result.YAML, said.String())
			}
			if c.root == "" {
				return
			}

			var output struct {
				TrustRoots []struct{ Name string } `yaml:"trustRoots"`
			}
			if err := yaml.Unmarshal(result.YAML, &output); err != nil {
				t.Fatal(err)
			}
			if len(output.TrustRoots) != 1 || output.TrustRoots[0].Name != c.root {
				t.Errorf("trust roots %v", output.TrustRoots)
			}
			for _, p := range load(t, result.YAML).Policies() {
				if roots := p.Authorities[0].TrustRoots; len(roots) != 1 || roots[0] != c.root {
					t.Errorf("asks for %v\n%s", roots, result.YAML)
				}
			}
		})
	}
}

// TestForeign: a document of another format is called by its name, with the
// format that reads it.
func TestForeign(t *testing.T) {
	for name, c := range map[string]struct{ format, text, says string }{
		"OpenShift": {
			"clusterimagepolicy",
			"apiVersion: config.openshift.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\n" +
				"spec: {scopes: [a.example]}\n",
			"OpenShift's ClusterImagePolicy, which is not imported: OpenShift writes it into " +
				"/etc/containers/policy.json",
		},
		"OpenShift's namespace": {
			"clusterimagepolicy",
			"apiVersion: config.openshift.io/v1\nkind: ImagePolicy\nmetadata: {name: p}\n",
			"OpenShift's ImagePolicy",
		},
		"OpenShift as policy.json": {
			"policy.json",
			"apiVersion: config.openshift.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\n",
			"OpenShift's ClusterImagePolicy",
		},
		"Kyverno": {
			"clusterimagepolicy",
			"apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\n",
			"is Kyverno's ClusterPolicy: import it as kyverno",
		},
		"policy-controller": {
			"kyverno",
			"apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: p}\n",
			"policy-controller's ClusterImagePolicy: import it as clusterimagepolicy",
		},
		"policy.json": {"kyverno", `{"default": [{"type": "reject"}]}`, "import it as policy.json"},
		"Talos": {
			"policy.json",
			"apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules: []\n",
			"import it as talos",
		},
		"for Talos": {"talos", `{"default": [{"type": "reject"}]}`, "import it as policy.json"},
		"no policy": {
			"clusterimagepolicy",
			"apiVersion: v1\nkind: Secret\nmetadata: {name: p}\n",
			`is a "Secret" of "v1", no policy about images`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := Convert(c.format, []File{{"f", []byte(c.text)}})
			if len(result.Problems) != 1 || !strings.Contains(result.Problems[0].Message, c.says) {
				t.Errorf("says %v", result.Problems)
			}
		})
	}
}
