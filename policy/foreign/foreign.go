// Package foreign recognizes the policies of other programs, so that a message
// can say what a document is and how it becomes a policy of pullgate. It knows
// by what each is told apart and nothing of what it says; cmd/pullgate/imports
// reads the formats.
package foreign

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The formats of `pullgate import`.
const (
	ClusterImagePolicy = "clusterimagepolicy"
	Kyverno            = "kyverno"
	PolicyJSON         = "policy.json"
	Talos              = "talos"
)

// Document is what a document of another program is.
type Document struct {
	What string // "Kyverno's ClusterPolicy"

	// Format is the format by which `pullgate import` reads the document itself;
	// empty where it does not.
	Format string

	// Advice says what to do where Format is empty; it may be empty too.
	Advice string
}

// kinds are the kinds of Kubernetes objects that hold policies about images, by
// the group of their version.
var kinds = map[string]map[string]Document{
	"policy.sigstore.dev": {
		"ClusterImagePolicy": {
			What:   "sigstore policy-controller's ClusterImagePolicy",
			Format: ClusterImagePolicy,
		},
		"TrustRoot": {What: "sigstore policy-controller's TrustRoot", Format: ClusterImagePolicy},
	},
	"kyverno.io": {
		"ClusterPolicy": {What: "Kyverno's ClusterPolicy", Format: Kyverno},
		"Policy":        {What: "Kyverno's Policy", Format: Kyverno},
	},
	"policies.kyverno.io": {
		"ImageValidatingPolicy":           {What: "Kyverno's ImageValidatingPolicy", Format: Kyverno},
		"NamespacedImageValidatingPolicy": {What: "Kyverno's NamespacedImageValidatingPolicy", Format: Kyverno},
	},
	"config.openshift.io": {
		"ClusterImagePolicy": {
			What: "OpenShift's ClusterImagePolicy",
			Advice: "OpenShift writes it into /etc/containers/policy.json of its nodes: import that file as " +
				PolicyJSON,
		},
		"ImagePolicy": {
			What: "OpenShift's ImagePolicy",
			Advice: "OpenShift writes it into a policy.json of its namespace on its nodes: import that file as " +
				PolicyJSON + " if it should hold for every pull",
		},
	},
}

// Recognize reports whether the root of a YAML or JSON document is a policy of
// another program, or any object of Kubernetes. Of a list of objects the first
// one tells.
func Recognize(root *yaml.Node) (Document, bool) {
	if root.Kind != yaml.MappingNode {
		return Document{}, false
	}
	version, kind := child(root, "apiVersion"), child(root, "kind")

	switch {
	case isText(version) && isText(kind):
		return object(root, version.Value, kind.Value), true
	case isText(kind) && kind.Value == "ImageVerificationConfig":
		return Document{What: "Talos Linux's ImageVerificationConfig", Format: Talos}, true
	case child(root, "transports") != nil, isRequirements(child(root, "default")):
		return Document{What: "a containers-policy.json(5)", Format: PolicyJSON}, true
	case child(root, "trustPolicies") != nil:
		return Document{
			What:   "a trust policy of Notation",
			Advice: "signatures of Notation are not imported",
		}, true
	}
	return Document{}, false
}

// object is an object of Kubernetes, or one that is written like it.
func object(root *yaml.Node, version, kind string) Document {
	if kind == "ImageVerificationConfig" {
		return Document{What: "Talos Linux's ImageVerificationConfig", Format: Talos}
	}

	items := child(root, "items")
	if strings.HasSuffix(kind, "List") && items != nil && items.Kind == yaml.SequenceNode && len(items.Content) > 0 {
		if first, ok := Recognize(items.Content[0]); ok {
			return first
		}
	}

	group, _, _ := strings.Cut(version, "/")
	if known, ok := kinds[group][kind]; ok {
		return known
	}
	return Document{What: fmt.Sprintf("a %.60q of %.60q", kind, version)}
}

func isText(n *yaml.Node) bool { return n != nil && n.Kind == yaml.ScalarNode && n.Value != "" }

// isRequirements reports whether n is a list as policy.json writes them.
func isRequirements(n *yaml.Node) bool {
	return n != nil && n.Kind == yaml.SequenceNode && len(n.Content) > 0 && child(n.Content[0], "type") != nil
}

func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
