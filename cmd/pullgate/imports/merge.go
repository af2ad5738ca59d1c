package imports

import (
	"fmt"
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

// merge turns rules that all must hold into policies of which the first
// decides. That can be said when the patterns of two rules never overlap
// halfway: the narrower then asks for what both do, and stands first.
func merge(r *report, rules []rule) []native {
	type group struct {
		rules  []int
		digest string
		places []place
	}
	var groups []group
	for i, a := range rules {
		for _, p := range a.places {
			g := group{digest: p.digest}
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
							b.file,
							q.line,
						)
					}
					applies = applies || q.covers(p)
				}
				if applies {
					g.rules = append(g.rules, j)
				}
			}
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
	pick := func(warn bool) []rule {
		var some []rule
		for _, a := range rules {
			if a.static == policy.Verify && a.warn == warn {
				some = append(some, a)
			}
		}
		return some
	}
	verifying := pick(false)
	warning := pick(true)
	switch {
	case len(verifying) == 0:
		verifying, p.warn = warning, true
	case len(warning) > 0:
		at := warning[0].value
		at.r.notes = &p.notes
		at.lose(
			"%q only warns, and %q enforces for the same images: its warning is not carried",
			warning[0].name,
			verifying[0].name,
		)
		at.r.notes = nil
	}
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
		p.add(a, len(verifying) > 1)
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

// beside names where signatures are kept.
func beside(repository string) string {
	if repository == "" {
		return "the image's own repository"
	}
	return repository
}

// add carries what a rule asks of every signature.
func (p *native) add(a rule, several bool) {
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
			return
		}
		if p.annotations == nil {
			p.annotations = map[string]string{}
		}
		p.annotations[key] = want
	}
	if several && len(a.annotations) > 0 {
		a.r.notes = &p.notes
		a.lose(
			"the annotations of %q are asked of every signature, also of those that other policies for the same "+
				"images ask for",
			a.name,
		)
		a.r.notes = nil
	}
}

// ask turns needs, all of which must hold, into authorities with a threshold.
func (p *native) ask(needs []need, at []value) {
	slots := 0      // what the authorities must reach
	chosen := false // some of the authorities may be missing
	var seen []string
	for i, n := range needs {
		if n.kind != "" {
			continue
		}
		who, count := n.who, n.count
		if len(needs) > 1 {
			who, count = collapse(n)
		}
		id := fmt.Sprint(count)
		for _, a := range who {
			id += a.same() + a.accept
		}
		if slices.Contains(seen, id) {
			continue
		}
		seen = append(seen, id)
		if count < len(who) {
			if chosen {
				at[i].refuse(
					"several of its sets let some of several signers suffice, and all sets must hold: a policy has " +
						"one threshold; write one set, or let each set be keys alone or identities alone",
				)
				return
			}
			chosen = true
		}
		slots += count
		for _, a := range who {
			a.required = count == len(who)
			p.sign(a)
		}
	}
	for i, n := range needs {
		if n.kind == "" {
			continue
		}
		who, count := collapse(n)
		if count < len(who) && len(needs) == 1 {
			slots, chosen = count, true
			for _, a := range who {
				a.accept = n.kind
				p.sign(a)
			}
			break
		}
		if count < len(who) {
			at[i].refuse(
				"attestations %s may come from some of several signers, besides what else must hold: write one "+
					"signer, or keys alone or identities alone",
				n.kind,
			)
			return
		}
		for _, a := range who {
			if j := slices.IndexFunc(p.authorities, func(b authority) bool { return b.same() == a.same() }); j >= 0 {
				if p.authorities[j].accept == n.kind && p.authorities[j].required {
					continue // its attestation is what it passes by
				}
				if p.authorities[j].name == "" {
					p.authorities[j].name = fmt.Sprintf("signer %d", j+1)
				}
				p.attestations = append(p.attestations, attestation{n.kind, p.authorities[j].name})
				continue
			}
			a.accept, a.required = n.kind, true
			slots++
			p.sign(a)
		}
	}
	p.threshold = slots
	p.distinct(at)
	if !chosen && len(p.authorities) > 0 && slots == len(p.authorities) {
		for i := range p.authorities {
			p.authorities[i].required = false // the threshold says so
		}
	}
}

// sign adds an authority under a name of its own.
func (p *native) sign(a authority) {
	name := a.name
	for i := 2; a.name != "" && slices.ContainsFunc(p.authorities, func(b authority) bool { return b.name == a.name }); i++ {
		a.name = fmt.Sprintf("%s %d", name, i)
	}
	p.authorities = append(p.authorities, a)
}

// distinct refuses a key that two authorities have: its signature would count once.
func (p *native) distinct(at []value) {
	var keys []string
	for _, a := range p.authorities {
		for _, key := range a.keys {
			id := key
			if parsed, err := policy.ParseKey([]byte(key)); err == nil {
				id = parsed.ID
			}
			if slices.Contains(keys, id) {
				at[0].refuse(
					"the same key is asked for twice by what applies to %q: remove one, a key counts once",
					p.name,
				)
				return
			}
			keys = append(keys, id)
		}
	}
}

// collapse writes "one of several keys", and "one of several identities", as
// the one authority that has them all.
func collapse(n need) ([]authority, int) {
	if n.count != 1 || len(n.who) < 2 {
		return n.who, n.count
	}
	first := n.who[0]
	frame := func(a authority) string {
		a.keys, a.identities = nil, nil
		return a.same() + a.accept
	}
	merged := first
	merged.keys, merged.identities = nil, nil
	var names []string
	for _, a := range n.who {
		if frame(a) != frame(first) || a.pki != nil || (len(a.keys) > 0) != (len(first.keys) > 0) {
			return n.who, n.count
		}
		merged.keys = append(merged.keys, a.keys...)
		merged.identities = append(merged.identities, a.identities...)
		if a.name != "" {
			names = append(names, a.name)
		}
	}
	merged.name = strings.Join(names, " or ")
	if len(merged.name) > 100 {
		merged.name = ""
	}
	return []authority{merged}, 1
}
