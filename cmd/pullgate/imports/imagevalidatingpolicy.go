package imports

import (
	"regexp"
	"strings"
)

// The expressions of validations that import understands. In both, all images
// of the resource have to be signed by any of the attestors in brackets.
var (
	signedExpression = regexp.MustCompile(
		`^images\.\w+\.map\((\w+), ?verifyImageSignatures\((\w+), ?\[([^\]]+)\]\)\)\.all\((\w+), ?(\w+) > 0\)$`,
	)
	attestedExpression = regexp.MustCompile(
		`^images\.\w+\.map\((\w+), ?verifyAttestationSignatures\((\w+), ?attestations\.(\w+) ?, ` +
			`?\[([^\]]+)\]\)\)\.all\((\w+), ?(\w+) > 0\)$`,
	)
)

const understood = "only images.containers.map(image, verifyImageSignatures(image, [attestors.NAME])).all(e, e > " +
	"0), and verifyAttestationSignatures alike, can be carried: " +
	"take it out, import, and write what it says about an attestation as cel: under attestations"

// imageValidatingPolicy is Kyverno's newer kind, of which all validations must
// hold.
type imageValidatingPolicy struct {
	rule
	attestors    map[string]authority
	attestations map[string]string // predicate types, by name
	validations  []value
}

func readImageValidatingPolicy(r *report, o kubernetes) []rule {
	a := imageValidatingPolicy{
		rule:         rule{value: o.value, name: o.name, annotations: map[string]string{}},
		attestors:    map[string]authority{},
		attestations: map[string]string{},
	}
	r.notes = &a.notes
	defer func() { r.notes = nil }()

	before := len(r.problems)
	o.read(func(spec value) { spec.object(a.fields()) })
	for _, v := range a.validations {
		v.object(fields{
			"expression":        a.readValidation,
			"message":           lost("refusals have pullgate's own text"),
			"messageExpression": lost("refusals have pullgate's own text"),
			"reason":            lost("refusals have pullgate's own text"),
		})
	}

	switch {
	case len(r.problems) > before:
	case len(a.places) == 0:
		o.refuse("has no matchImageReferences: add them")
	case len(a.needs) == 0:
		validations := o.value
		validations.Path = "spec.validations"
		validations.refuse("say nothing about signatures: add one that does")
	}
	if len(a.needs) > 0 {
		o.lose(bundlesCount, "Kyverno before 1.19")
		o.lose(childrenByIndex, "Kyverno")
	}
	return []rule{a.rule}
}

// fields are those of a spec.
func (a *imageValidatingPolicy) fields() fields {
	cluster := lost("is the cluster's")

	return fields{
		"matchConstraints":  lost(everyPull),
		"matchConditions":   lost(everyPull),
		"failurePolicy":     lost("what cannot be told is answered with 503"),
		"auditAnnotations":  cluster,
		"validationActions": a.readActions,
		"variables":         lost("variables are the cluster's"),
		"validationConfigurations": func(v value) {
			v.object(fields{
				"mutateDigest": lost("a pull by tag is resolved once, and what was verified is served"),
				"verifyDigest": lost("pulls by tag are verified as well"),
				"required":     lost("every pull is verified"),
			})
		},
		"matchImageReferences": func(v value) {
			v.items(func(e value) {
				e.object(fields{
					"glob":       a.references,
					"expression": refused("an expression over names cannot be carried: write glob"),
				})
			})
		},
		"credentials":          lost("credentials are the upstream's: auth under upstreams"),
		"images":               lost(everyPull),
		"attestors":            func(v value) { v.items(a.readAttestor) },
		"attestations":         func(v value) { v.items(a.readAttestation) },
		"validations":          func(v value) { a.validations = v.list() },
		"webhookConfiguration": cluster,
		"evaluation":           cluster,
		"autogen":              cluster,
	}
}

func (a *imageValidatingPolicy) readActions(v value) {
	actions := v.texts()
	a.warn = len(actions) > 0 // none: Kyverno denies
	for _, action := range actions {
		switch action {
		case "Deny":
			a.warn = false
		case "Audit", "Warn":
		default:
			v.refuse("%q is not known: Deny, Audit or Warn", action)
		}
	}
}

func (a *imageValidatingPolicy) readAttestation(v value) {
	name, kind := "", ""
	v.object(fields{
		"name":     func(f value) { name = f.text() },
		"intoto":   func(f value) { f.object(fields{"type": func(u value) { kind = u.text() }}) },
		"referrer": refused("attestations by Notary are not verified: attest with cosign, and write intoto"),
	})
	a.attestations[name] = kind
}

// readValidation turns an expression into what the rule needs.
func (a *imageValidatingPolicy) readValidation(v value) {
	text := strings.Join(strings.Fields(v.text()), " ")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "( ", "("), " )", ")")
	var kind, names string
	if m := signedExpression.FindStringSubmatch(text); m != nil && m[1] == m[2] && m[4] == m[5] {
		names = m[3]
	} else if m := attestedExpression.FindStringSubmatch(text); m != nil && m[1] == m[2] && m[5] == m[6] {
		names = m[4]
		if kind = a.attestations[m[3]]; kind == "" {
			v.refuse("attestation %q is not defined", m[3])
			return
		}
	} else {
		v.refuse("%s", understood)
		return
	}

	if !strings.HasPrefix(text, "images.containers.") {
		v.lose("holds for every pull: pullgate does not see which container an image is for")
	}
	n := need{count: 1, kind: kind}
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		who, ok := a.attestors[strings.TrimPrefix(name, "attestors.")]
		if !ok || !strings.HasPrefix(name, "attestors.") {
			v.refuse("attestor %q is not defined", name)
			return
		}
		n.who = append(n.who, who)
	}
	a.needs = append(a.needs, n)
}
