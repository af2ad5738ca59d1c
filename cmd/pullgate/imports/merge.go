package imports

import (
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// need is one thing a rule asks for: that count of who have signed, or have
// made an attestation.
type need struct {
	count int
	who   []authority
	kind  string // predicate type of an attestation; "": a signature
}

// rule is a policy of a source in which every policy that matches must hold.
type rule struct {
	value
	name        string
	places      []place
	static      policy.Action
	warn        bool
	needs       []need
	annotations map[string]string
	repository  string
	notes       []string
}

// group is the places to which the same rules apply.
type group struct {
	rules  []int
	digest string
	places []place
}

// merge turns rules that all must hold into policies of which the first
// decides. That can be said when the patterns of two rules never overlap
// halfway: the narrower then asks for what both do, and stands first.
func merge(r *report, rules []rule) []native {
	groups := grouped(rules)
	if len(r.problems) > 0 {
		return nil
	}

	// A pattern inside another is subject to more rules.
	slices.SortStableFunc(groups, func(a, b group) int {
		if len(a.rules) != len(b.rules) {
			return len(b.rules) - len(a.rules)
		}
		return strings.Compare(b.digest, a.digest) // one digest before all
	})

	var policies []native
	for _, g := range groups {
		var all []rule
		for _, i := range g.rules {
			all = append(all, rules[i])
		}
		p := together(all)
		p.places = g.places
		policies = append(policies, p)
	}
	return policies
}

// grouped puts together the places to which the same rules apply.
func grouped(rules []rule) []group {
	var groups []group
	for i := range rules {
		for _, p := range rules[i].places {
			g := group{digest: p.digest, rules: applying(rules, i, p)}
			at := slices.IndexFunc(groups, func(other group) bool {
				return other.digest == g.digest && slices.Equal(other.rules, g.rules)
			})
			if at < 0 {
				at = len(groups)
				groups = append(groups, g)
			}
			groups[at].places = append(groups[at].places, p)
		}
	}
	return groups
}

// applying are the rules that apply to all that p, a place of the i-th rule,
// matches. One that applies to a part of it is refused.
func applying(rules []rule, i int, p place) []int {
	var all []int
	for j, b := range rules {
		applies := i == j
		for _, q := range b.places {
			if i != j && p.meets(q) && !p.covers(q) && !q.covers(p) {
				p.refuse(
					"%s overlaps %s of %q (%s:%d), and an image that both match has to satisfy both; the "+
						"first match alone decides here: "+
						"write patterns of which one contains the other, or that exclude each other",
					p.glob,
					q.glob,
					b.name,
					b.File,
					q.Line,
				)
			}
			applies = applies || q.covers(p)
		}

		if applies {
			all = append(all, j)
		}
	}
	return all
}

// together is the policy that asks for what all rules ask for.
func together(rules []rule) native {
	var names []string
	p := native{static: policy.Allow}
	for _, a := range rules {
		names = append(names, a.name)
		for _, note := range a.notes {
			if !slices.Contains(p.notes, note) {
				p.notes = append(p.notes, note)
			}
		}
		if a.static == policy.Deny {
			p.static = policy.Deny
		}
	}
	p.name = strings.Join(names, " and ")
	if p.static == policy.Deny {
		return p
	}

	verifying := p.deciding(rules)
	if len(verifying) == 0 {
		return p
	}

	p.static = policy.Verify
	var needs []need
	var at []value
	for _, a := range verifying {
		for _, n := range a.needs {
			needs = append(needs, n)
			at = append(at, a.value)
		}
		if p.annotate(a) && len(verifying) > 1 && len(a.annotations) > 0 {
			p.lose(
				a.value,
				"the annotations of %q are asked of every signature, also of those that other policies for the "+
					"same images ask for",
				a.name,
			)
		}
		if first := verifying[0]; a.repository != first.repository {
			a.refuse(
				"signatures of %q are kept in %s, those of %q for the same images in %s: one policy looks in one place",
				a.name,
				beside(a.repository),
				first.name,
				beside(first.repository),
			)
		}
		p.repository = a.repository
	}
	p.ask(needs, at)
	return p
}

// deciding are the rules that verify: those that enforce, else those that warn.
func (p *native) deciding(rules []rule) []rule {
	var enforcing, warning []rule
	for _, a := range rules {
		switch {
		case a.static != policy.Verify:
		case a.warn:
			warning = append(warning, a)
		default:
			enforcing = append(enforcing, a)
		}
	}

	switch {
	case len(enforcing) == 0:
		p.warn = true
		return warning
	case len(warning) > 0:
		p.lose(
			warning[0].value,
			"%q only warns, and %q enforces for the same images: its warning is not carried",
			warning[0].name,
			enforcing[0].name,
		)
	}
	return enforcing
}

// lose lists a loss of the policy, which v has caused.
func (p *native) lose(v value, format string, args ...any) {
	v.r.notes = &p.notes
	v.lose(format, args...)
	v.r.notes = nil
}

// beside names where signatures are kept.
func beside(repository string) string {
	if repository == "" {
		return "the image's own repository"
	}
	return repository
}

// annotate carries what a rule asks of every signature; false means that
// another rule asks for something else.
func (p *native) annotate(a rule) bool {
	for key, want := range a.annotations {
		if other, ok := p.annotations[key]; ok && other != want {
			a.refuse(
				"%q asks for the annotation %s=%q, another policy for the same images for %q: one policy cannot "+
					"ask for both",
				a.name,
				key,
				want,
				other,
			)
			return false
		}

		if p.annotations == nil {
			p.annotations = map[string]string{}
		}
		p.annotations[key] = want
	}
	return true
}
