package policy

import (
	"fmt"
	"maps"
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
func (v value) predicateType() (string, bool) {
	text, ok := v.text()
	if !ok {
		return "", false
	}
	if uri := predicateTypes()[text]; uri != "" {
		return uri, true
	}
	if isPredicateURI(text) {
		return text, true
	}

	names := slices.Sorted(maps.Keys(predicateTypes()))
	v.problem(
		"%s: unknown type %s: write one of %s, or the predicate type's URI",
		v.Path,
		v.brief(),
		strings.Join(names, ", "),
	)
	return "", false
}

func isPredicateURI(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme != "" && (u.Host != "" || u.Opaque != "") &&
		printable(text) && len(text) <= maxPattern
}

// accept reads what counts as an authority's signature.
func (v value) accept() []string {
	var types []string
	items, _ := v.filled()
	for _, item := range items {
		kind := SignaturePredicate
		if item.Node.Value != "signature" || item.Node.Kind != yaml.ScalarNode {
			var ok bool
			if kind, ok = item.predicateType(); !ok {
				continue
			}
		}

		if slices.Contains(types, kind) {
			item.problem("%s: %s is there twice", v.Path, item.brief())
			continue
		}
		types = append(types, kind)
	}
	return types
}

var attestationFields = []string{"type", "authorities", "cel"}

// attestations reads the list; the authorities that it may name are p's.
func (p *Policy) attestations(v value) []Attestation {
	var list []Attestation
	items, _ := v.filled()
	for i, item := range items {
		item = item.called(fmt.Sprintf("%s %d", strings.TrimSuffix(v.Path, "s"), i+1))
		if a, ok := p.attestation(item); ok {
			list = append(list, a)
		}
	}
	return list
}

func (p *Policy) attestation(v value) (Attestation, bool) {
	fields, ok := v.mapping()
	if !ok {
		return Attestation{}, false
	}
	known(fields, attestationFields)

	var a Attestation
	for _, f := range fields {
		switch f.name {
		case "type":
			a.Name = f.Node.Value
			a.Type, _ = f.predicateType()
			if a.Type == SignaturePredicate {
				f.problem("%s: that is what a signature is: demand it by authorities", f.Path)
			}
		case "authorities":
			for item, name := range f.texts() {
				p.checkSigner(item.called(v.Path), name)
				a.Authorities = append(a.Authorities, name)
			}
		case "cel":
			a.CEL = f.cel()
		}
	}

	if a.Name == "" {
		v.problem("%s has no type: name one, such as slsaprovenance1", v.Path)
	}
	if len(a.Authorities) == 0 {
		a.Authorities = p.authorityNames()
	}
	return a, true
}

// checkSigner reports a name that no authority of p has.
func (p *Policy) checkSigner(v value, name string) {
	if names := p.authorityNames(); !slices.Contains(names, name) {
		v.problem("%s: unknown authority %q (known: %s)", v.Path, name, strings.Join(names, ", "))
	}
}

func (p *Policy) authorityNames() []string {
	var names []string
	for i := range p.Authorities {
		names = append(names, p.Authorities[i].Name)
	}
	return names
}

// cel reads a condition; nil when there is a problem with it.
func (v value) cel() *Expression {
	text, ok := v.text()
	if !ok {
		return nil
	}

	expression, err := ParseExpression(text)
	if err != nil {
		v.problem("%s: %v", v.Path, err)
	}
	return expression
}
