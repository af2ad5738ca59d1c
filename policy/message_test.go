package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMessages: what people write by mistake is answered with what to write.
func TestMessages(t *testing.T) {
	t.Parallel()
	const entry = "policies:\n  - name: p\n    images: ['reg.example/**']\n"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"polices": {
			"polices: []\n",
			[]string{`p.yaml:1: a policy file: unknown field "polices": did you mean "policies"?`},
		},
		"another case": {"Policies: []\n", []string{`did you mean "policies"?`}},
		"nothing like it": {
			"rules: []\n",
			[]string{`p.yaml:1: a policy file: unknown field "rules" (known: policies, trustRoots)`},
		},
		"a field": {
			entry + "    statik: allow\n    authorites: []\n",
			[]string{
				`p.yaml:4: policy "p": unknown field "statik": did you mean "static"?`,
				`p.yaml:5: policy "p": unknown field "authorites": did you mean "authorities"?`,
			},
		},
		"an authority's": {
			entry + "    authorities: [{kye: cosign.pub}]\n",
			[]string{`unknown field "kye": did you mean "key"?`},
		},
		"an identity's": {
			entry + "    authorities: [{keyless: {identities: [{isuer: x, subjectRegexp: y}]}}]\n",
			[]string{`did you mean "issuer"?`, `did you mean "subjectRegExp"?`},
		},
		"a text for a mapping": {
			entry + "    authorities: [cosign.pub]\n",
			[]string{`authority 1 must be a mapping (fields as NAME: VALUE), not "cosign.pub"`},
		},
		"no space behind the colon": {
			entry + "    authorities: ['key:cosign.pub']\n",
			[]string{`authority 1 must be a mapping (with a space behind the colon: key: …), not "key:cosign.pub"`},
		},
		"a text for policies": {"policies: prod\n", []string{`policies must be a list (["prod"]), not "prod"`}},
		"a text for a list": {
			"policies:\n  - name: p\n    images: reg.example/**\n    static: deny\n",
			[]string{`images must be a list (["reg.example/**"]), not "reg.example/**"`},
		},
		"a tab": {
			"policies:\n\t- name: p\n",
			[]string{"p.yaml:2: line 2: a tab character indents the line: YAML wants spaces"},
		},
		"a tab later": {
			"policies:\n  - name: p\n\t  images: []\n",
			[]string{"p.yaml:3: line 3: a tab character indents the line: YAML wants spaces"},
		},
		"all at once": {
			"policies:\n  - name: p\n    images: ['reg.example/**:v1']\n    treshold: 3\n" +
				"    authorities: [{key: none.pub, keyless: {identities: [{issuer: x}]}, trustRoot: none}]\n" +
				"  - images: [x]\n    static: maybe\ntrustRoots: [{name: r}]\n",
			[]string{
				"p.yaml:3: ", `did you mean "threshold"?`, "must have exactly one of key",
				"none.pub", "has no subject", "p.yaml:6: policy has no name", "does not start with a registry host",
				"static must be allow or deny", "must have either file or tuf",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, c.text)
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("nothing says %q:\n%s", want, got)
				}
			}
		})
	}
}

// TestForeignPolicy: another program's policy among policyFiles, or in the list
// itself, is called by its name, with the command that reads it.
func TestForeignPolicy(t *testing.T) {
	t.Parallel()
	const cip = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec: {}\n"
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"policy-controller": {
			cip,
			"this is sigstore policy-controller's ClusterImagePolicy: use `pullgate import clusterimagepolicy ",
		},
		"two of them": {cip + "---\n" + cip, "use `pullgate import clusterimagepolicy "},
		"Kyverno": {
			"apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: p}\n",
			"this is Kyverno's ClusterPolicy: use `pullgate import kyverno ",
		},
		"policy.json": {`{"default": [{"type": "reject"}]}`, "use `pullgate import policy.json "},
		"Talos": {
			"apiVersion: v1alpha1\nkind: ImageVerificationConfig\nrules: []\n",
			"use `pullgate import talos ",
		},
		"OpenShift": {
			"apiVersion: config.openshift.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\n",
			"OpenShift's ClusterImagePolicy: OpenShift writes it into /etc/containers/policy.json",
		},
		"another object": {
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p}\n",
			`this is a "ConfigMap" of "v1": take it out of policyFiles`,
		},
		"in the list": {
			"policies:\n  - {apiVersion: kyverno.io/v1, kind: ClusterPolicy}\n",
			"a policy must be pullgate's, and this is Kyverno's ClusterPolicy: use `pullgate import kyverno ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, c.text)
			if !strings.Contains(got, c.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("says:\n%s", got)
			}
		})
	}

	t.Run("among others", func(t *testing.T) {
		dir := t.TempDir()
		for file, text := range map[string]string{
			"a.yaml": cip,
			"b.yaml": "policies: [{name: p, images: [x], static: deny}]\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		set, problems := Load(Input{ConfigFile: "config.yaml", Dir: dir, Files: []string{"*.yaml"}})
		if len(problems) != 2 || len(set.Policies()) != 0 {
			t.Errorf("problems %v", problems)
		}
	})
}

// TestSubjectEmail is a subject that one kind of name alone satisfies.
func TestSubjectEmail(t *testing.T) {
	t.Parallel()
	id := Identity{Issuer: Exactly("i"), Subject: Exactly("a@b.example"), SubjectEmail: true}
	for name, c := range map[string]struct {
		claims Claims
		want   bool
	}{
		"an e-mail name": {Claims{Issuer: "i", Subject: "a@b.example", IsEmail: true}, true},
		"another kind":   {Claims{Issuer: "i", Subject: "a@b.example"}, false},
		"another":        {Claims{Issuer: "i", Subject: "c@b.example", IsEmail: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := id.Match(c.claims); (err == nil) != c.want {
				t.Errorf("%v", err)
			}
		})
	}

	const entry = "policies: [{name: p, images: ['reg.example/**'], authorities: [{"
	for name, c := range map[string]struct{ authority, want string }{
		"an identity": {`keyless: {identities: [{issuer: i, subjectEmail: a@b.example}]}`, ""},
		"two subjects": {
			`keyless: {identities: [{issuer: i, subject: x, subjectEmail: a@b.example}]}`,
			"has subjectEmail beside another subject: remove one",
		},
		"an expression too": {
			`keyless: {identities: [{issuer: i, subjectRegExp: x, subjectEmail: a@b.example}]}`,
			"has subjectEmail beside another subject: remove one",
		},
		"a pattern":    {`keyless: {identities: [{issuer: i, subjectEmail: "*@b.example"}]}`, "is compared exactly"},
		"an empty one": {`keyless: {identities: [{issuer: i, subjectEmail: ""}]}`, "must be printable text"},
		"a certificate's two": {
			`certificate: {rootsFile: none.pem, subject: x, subjectEmail: a@b.example}`,
			"must have either subject or subjectRegExp",
		},
		"a certificate's none": {`certificate: {rootsFile: none.pem}`, "must have either subject or subjectRegExp"},
	} {
		t.Run(name, func(t *testing.T) {
			got := problemsOf(t, entry+c.authority+"}]}]\n")
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("says %q", got)
			}
		})
	}
}
