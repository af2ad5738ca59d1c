package imports

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// asking turns needs into the authorities of a policy and their threshold.
type asking struct {
	*native
	needs  []need
	at     []value  // where each need is written
	slots  int      // what the authorities must reach
	chosen bool     // some of the authorities may be missing
	seen   []string // signatures that are asked for already
}

// ask turns needs, all of which must hold, into authorities with a threshold.
func (p *native) ask(needs []need, at []value) {
	a := asking{native: p, needs: needs, at: at}
	a.takeApart()
	a.dropImplied()

	needs = a.needs
	for i, n := range needs {
		if n.kind == "" && !a.signatures(i) {
			return
		}
	}
	for i, n := range needs {
		if n.kind != "" && !a.ofKind(i) {
			return
		}
	}

	p.threshold = a.slots
	p.distinct(at)
	if !a.chosen && len(p.authorities) > 0 && a.slots == len(p.authorities) {
		for i := range p.authorities {
			p.authorities[i].required = false // the threshold says so
		}
	}
	p.countOnce(at)
}

// signatures asks for those of the i-th need; false means that it cannot.
func (a *asking) signatures(i int) bool {
	n := a.needs[i]
	who, count := n.who, n.count
	if len(a.needs) > 1 {
		who, count = collapse(n)
	}

	id := fmt.Sprint(count)
	for _, one := range who {
		id += one.same() + one.accept
	}
	if slices.Contains(a.seen, id) {
		return true
	}
	a.seen = append(a.seen, id)

	if count < len(who) {
		if a.chosen {
			a.at[i].refuse(
				"several of its sets let some of several signers suffice, and all sets must hold: a policy has " +
					"one threshold; write one set, or let each set be keys alone or identities alone",
			)
			return false
		}
		a.chosen = true
	}
	a.slots += count
	for _, one := range who {
		one.required = count == len(who)
		a.sign(one)
	}
	return true
}

// ofKind asks for the attestations of the i-th need; false means that it cannot.
func (a *asking) ofKind(i int) bool {
	n := a.needs[i]
	who, count := collapse(n)

	switch {
	case count >= len(who):
		for _, one := range who {
			a.attest(one, n.kind)
		}
	case len(a.needs) == 1:
		a.slots, a.chosen = count, true
		for _, one := range who {
			one.accept = n.kind
			a.sign(one)
		}
	default:
		a.at[i].refuse(
			"attestations %s may come from some of several signers, besides what else must hold: write one "+
				"signer, or keys alone or identities alone",
			n.kind,
		)
		return false
	}
	return true
}

// attest asks who for an attestation: beside its signature, or instead of one
// where no signature is asked of it.
func (a *asking) attest(who authority, kind string) {
	j := slices.IndexFunc(a.authorities, func(other authority) bool { return other.same() == who.same() })
	if j < 0 {
		who.accept, who.required = kind, true
		a.slots++
		a.sign(who)
		return
	}

	signer := &a.authorities[j]
	if signer.accept == kind && signer.required {
		return // its attestation is what it passes by
	}
	if signer.name == "" {
		signer.name = fmt.Sprintf("signer %d", j+1)
	}
	a.attestations = append(a.attestations, attestation{kind, signer.name})
}

// sign adds an authority under a name of its own.
func (p *native) sign(a authority) {
	name := a.name
	taken := func() bool {
		return slices.ContainsFunc(p.authorities, func(b authority) bool { return b.name == a.name })
	}
	for i := 2; a.name != "" && taken(); i++ {
		a.name = fmt.Sprintf("%s %d", name, i)
	}
	p.authorities = append(p.authorities, a)
}

// countOnce lists what is stricter here where one signer could do for two
// authorities there: a threshold counts different signers.
func (p *native) countOnce(at []value) {
	if p.threshold < 2 {
		return
	}

	compare := &at[0].r.compare
	for i, a := range p.authorities {
		for _, b := range p.authorities[i+1:] {
			if !compare.oneSigner(a, b) {
				continue
			}
			p.lose(
				at[len(at)-1],
				"is stricter here: one signer may satisfy both %s and %s there; here a signer counts once, and %d "+
					"different ones must sign",
				a.words(),
				b.words(),
				p.threshold,
			)
			return
		}
	}
}

// words name an authority in a message.
func (a authority) words() string {
	switch {
	case a.name != "":
		return fmt.Sprintf("%.100q", a.name)
	case a.pki != nil:
		return fmt.Sprintf("%.100q", a.pki.subject)
	case len(a.identities) > 0:
		return fmt.Sprintf("%.100q", cmp.Or(a.identities[0].subject, a.identities[0].subjectRegExp))
	}
	return "a key"
}

// distinct refuses a key that two authorities have: its signature would count once.
func (p *native) distinct(at []value) {
	var keys []string
	for _, a := range p.authorities {
		for _, key := range a.keys {
			id := keyID(key)
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
