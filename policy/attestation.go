package policy

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SignaturePredicate is the predicate type of a cosign image signature; for
// policies, of a legacy one as well, which has no predicate.
const SignaturePredicate = "https://sigstore.dev/cosign/sign/v1"

// Attestation is one that must be there: a signed in-toto statement about the
// image, of this type, by one of these authorities, of which CEL is true.
type Attestation struct {
	Name        string   // the type as written
	Type        string   // predicate type, a URI
	Authorities []string // names of authorities that may sign it; never empty
	CEL         *Expression
}

// predicateTypes are the names cosign knows types by (cosign attest --type).
func predicateTypes() map[string]string {
	return map[string]string{
		"slsaprovenance":   "https://slsa.dev/provenance/v0.2",
		"slsaprovenance02": "https://slsa.dev/provenance/v0.2",
		"slsaprovenance1":  "https://slsa.dev/provenance/v1",
		"link":             "https://in-toto.io/Link/v1",
		"spdx":             "https://spdx.dev/Document",
		"spdxjson":         "https://spdx.dev/Document",
		"cyclonedx":        "https://cyclonedx.org/bom",
		"vuln":             "https://cosign.sigstore.dev/attestation/vuln/v1",
		"openvex":          "https://openvex.dev/ns",
		"custom":           "https://cosign.sigstore.dev/attestation/v1",
	}
}

// predicateType reads a type: one of cosign's names, or a URI.
func (s source) predicateType(n *yaml.Node, what string) (string, bool) {
	text, ok := s.text(n, what)
	if !ok {
		return "", false
	}
	if uri := predicateTypes()[text]; uri != "" {
		return uri, true
	}
	if u, err := url.Parse(
		text,
	); err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "") && printable(text) &&
		len(text) <= maxPattern {
		return text, true
	}
	var names []string
	for name := range predicateTypes() {
		names = append(names, name)
	}
	slices.Sort(names)
	s.problem(
		n,
		"%s: unknown type %s: write one of %s, or the predicate type's URI",
		what,
		brief(n),
		strings.Join(names, ", "),
	)
	return "", false
}

// accept reads what counts as an authority's signature.
func (s source) accept(n *yaml.Node, what string) []string {
	var types []string
	nodes, _ := s.texts(n, what)
	for _, node := range nodes {
		kind := SignaturePredicate
		if node.Value != "signature" || node.Kind != yaml.ScalarNode {
			var ok bool
			if kind, ok = s.predicateType(node, what); !ok {
				continue
			}
		}
		if slices.Contains(types, kind) {
			s.problem(node, "%s: %s is there twice", what, brief(node))
			continue
		}
		types = append(types, kind)
	}
	return types
}

var attestationFields = []string{"type", "authorities", "cel"}

func (s source) attestations(p *Policy, n *yaml.Node, what string) {
	nodes, _ := s.texts(n, what)
	for i, node := range nodes {
		label := fmt.Sprintf("%s %d", strings.TrimSuffix(what, "s"), i+1)
		fields, ok := s.mapping(node, label)
		if !ok {
			continue
		}
		s.known(fields, label, attestationFields)
		var a Attestation
		for _, f := range fields {
			switch f.name {
			case "type":
				a.Name = f.value.Value
				a.Type, _ = s.predicateType(f.value, label+": type")
				if a.Type == SignaturePredicate {
					s.problem(f.value, "%s: type: that is what a signature is: demand it by authorities", label)
				}
			case "authorities":
				names, _ := s.texts(f.value, label+": authorities")
				for _, name := range names {
					if text, ok := s.text(name, label+": authorities"); ok {
						s.attestationUses(p, name, text, label)
						a.Authorities = append(a.Authorities, text)
					}
				}
			case "cel":
				text, ok := s.text(f.value, label+": cel")
				if !ok {
					continue
				}
				expression, err := ParseExpression(text)
				if err != nil {
					s.problem(f.value, "%s: cel: %v", label, err)
				}
				a.CEL = expression
			}
		}
		if a.Name == "" {
			s.problem(node, "%s has no type: name one, such as slsaprovenance1", label)
		}
		if len(a.Authorities) == 0 {
			for i := range p.Authorities {
				a.Authorities = append(a.Authorities, p.Authorities[i].Name)
			}
		}
		p.Attestations = append(p.Attestations, a)
	}
}

// attestationUses reports a name that no authority of p has.
func (s source) attestationUses(p *Policy, n *yaml.Node, name, what string) {
	var known []string
	for i := range p.Authorities {
		known = append(known, p.Authorities[i].Name)
	}
	if !slices.Contains(known, name) {
		s.problem(n, "%s: unknown authority %q (known: %s)", what, name, strings.Join(known, ", "))
	}
}
