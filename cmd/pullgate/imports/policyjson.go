package imports

import (
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/foreign"
)

// policyJSON gathers what the files say.
type policyJSON struct {
	rules    []rule
	fallback *rule // the default; nil: none was read
}

// readPolicyJSON reads containers-policy.json(5), by which Podman, Buildah,
// Skopeo and CRI-O decide: the most specific scope decides, and all of its
// requirements must hold.
func readPolicyJSON(r *report, files []File) []native {
	var p policyJSON
	for _, f := range files {
		for _, doc := range r.documents(f) {
			p.readDocument(doc)
		}
	}

	ofDocker := func(a rule) bool { return a.name == "docker" }
	if p.fallback != nil && !slices.ContainsFunc(p.rules, ofDocker) {
		p.rules = append(p.rules, *p.fallback)
	} else if p.fallback != nil {
		p.fallback.lose("the docker transport has a default of its own: this one decides about no pull")
	}

	slices.SortStableFunc(p.rules, func(a, b rule) int { return specificity(b) - specificity(a) })
	var policies []native
	for _, a := range p.rules {
		n := together([]rule{a})
		n.places = a.places
		n.ownChildren = true
		policies = append(policies, n)
	}
	return policies
}

// specificity orders scopes: a digest is the most specific, then the longer
// name.
func specificity(a rule) int {
	if len(a.places) == 0 {
		return 0 // refused
	}

	n := len(strings.Trim(a.places[0].glob.String(), "/*"))
	if a.places[0].digest != "" {
		n += 1000
	}
	return n
}

func (p *policyJSON) readDocument(doc value) {
	if doc.isElsewhere(foreign.PolicyJSON) {
		return
	}

	given := false
	doc.object(fields{
		"default": func(v value) {
			given = true
			if p.fallback != nil {
				v.refuse("a second default: import one policy.json at a time")
			}
			a := readRequirements(v, "everything else")
			a.places = []place{everywhere(v)}
			p.fallback = &a
		},
		"transports": func(v value) { v.each(p.readTransport) },
	})

	if !given {
		doc.refuse("has no default: containers-policy.json(5) demands one")
	}
	doc.lose(
		"signatures on a lookaside server (containers-registries.d) are not seen, only those in the " +
			"registry; use-sigstore-attachments need not be set",
	)
}

func (p *policyJSON) readTransport(transport string, scopes value) {
	if transport != "docker" {
		scopes.lose("transport %s is no registry's: pullgate sees no pull by it", transport)
		return
	}

	scopes.each(func(scope string, v value) {
		a := readRequirements(v, scope)
		if scope == "" {
			a.name = "docker"
			a.places = []place{everywhere(v)}
		} else {
			v.r.notes = &a.notes
			a.places = v.scope(scope)
			v.r.notes = nil
		}
		p.rules = append(p.rules, a)
	})
}

// readRequirements reads the requirements of one scope, all of which must hold.
func readRequirements(v value, scope string) rule {
	a := rule{value: v, name: scope, static: policy.Allow}
	v.r.notes = &a.notes
	defer func() { v.r.notes = nil }()

	all := v.list()
	if len(all) == 0 {
		v.refuse("is empty: write a requirement, reject or insecureAcceptAnything")
	}
	for _, e := range all {
		switch kind := e.peek("type"); kind {
		case "insecureAcceptAnything":
			e.object(fields{"type": carried})
		case "reject":
			e.object(fields{"type": carried})
			a.static = policy.Deny
		case "sigstoreSigned":
			a.needs = append(a.needs, readSigstoreSigned(e, scope))
			if a.static == policy.Allow {
				a.static = policy.Verify
			}
		case "signedBy":
			e.refuse(
				"signatures by GPG keys (simple signing) are not verified: sign with cosign, and write sigstoreSigned",
			)
		default:
			e.refuse("type %.40q is not known: sigstoreSigned, insecureAcceptAnything or reject", kind)
		}
	}
	if a.static == policy.Verify {
		v.lose(bundlesCount, "containers/image")
		v.lose(
			"is stricter here: an index has to be signed as well as the platform images it lists (cosign sign " +
				"--recursive); containers/image asks for the signature of the platform image alone",
		)
	}
	return a
}
