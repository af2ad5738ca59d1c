package foreign

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestRecognize(t *testing.T) {
	const list = "{apiVersion: v1, kind: List, items: [{apiVersion: kyverno.io/v1, kind: ClusterPolicy}]}"
	for name, c := range map[string]struct{ text, what, format string }{
		"policy-controller": {
			"{apiVersion: policy.sigstore.dev/v1beta1, kind: ClusterImagePolicy}",
			"sigstore policy-controller's ClusterImagePolicy", ClusterImagePolicy,
		},
		"its root": {
			"{kind: TrustRoot, apiVersion: policy.sigstore.dev/v1alpha1}",
			"sigstore policy-controller's TrustRoot", ClusterImagePolicy,
		},
		"Kyverno":     {"{apiVersion: kyverno.io/v1, kind: ClusterPolicy}", "Kyverno's ClusterPolicy", Kyverno},
		"a namespace": {"{apiVersion: kyverno.io/v1, kind: Policy}", "Kyverno's Policy", Kyverno},
		"Kyverno's newer": {
			"{apiVersion: policies.kyverno.io/v1, kind: ImageValidatingPolicy}",
			"Kyverno's ImageValidatingPolicy", Kyverno,
		},
		"a list": {list, "Kyverno's ClusterPolicy", Kyverno},
		"OpenShift": {
			"{apiVersion: config.openshift.io/v1, kind: ClusterImagePolicy}",
			"OpenShift's ClusterImagePolicy", "",
		},
		"OpenShift's namespace": {
			"{apiVersion: config.openshift.io/v1, kind: ImagePolicy}",
			"OpenShift's ImagePolicy", "",
		},
		"another object": {"{apiVersion: v1, kind: Secret}", `a "Secret" of "v1"`, ""},
		"an empty list":  {"{apiVersion: v1, kind: List, items: []}", `a "List" of "v1"`, ""},
		"Talos": {
			"{apiVersion: v1alpha1, kind: ImageVerificationConfig, rules: []}",
			"Talos Linux's ImageVerificationConfig", Talos,
		},
		"policy.json":      {`{"default": [{"type": "reject"}]}`, "a containers-policy.json(5)", PolicyJSON},
		"its transports":   {`{"transports": {}}`, "a containers-policy.json(5)", PolicyJSON},
		"Notation":         {`{"version": "1.0", "trustPolicies": []}`, "a trust policy of Notation", ""},
		"pullgate":         {"{policies: []}", "", ""},
		"pullgate's entry": {"{name: p, images: ['**'], static: deny}", "", ""},
		"a list of these":  {"[{name: p}]", "", ""},
		"no kind":          {"{apiVersion: v1}", "", ""},
		"a kind":           {"{kind: x}", "", ""},
		"strange kinds":    {"{apiVersion: [v1], kind: {a: b}}", "", ""},
		"a default":        {"{default: deny}", "", ""},
		"text":             {"x", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var n yaml.Node
			if err := yaml.Unmarshal([]byte(c.text), &n); err != nil {
				t.Fatal(err)
			}

			got, ok := Recognize(n.Content[0])
			if got.What != c.what || got.Format != c.format || ok != (c.what != "") {
				t.Errorf("%+v, %t", got, ok)
			}
		})
	}
}
