package policy

import "slices"

// reach finds policies that earlier ones leave nothing to. Policies are added
// in their order. It looks only at globs that begin as the one in question does,
// so that a long list costs little more per policy than a short one.
type reach struct {
	policies  []*Policy
	byLiteral map[string][]wider // globs by what every match starts with
	byDigest  map[string][]int   // policies without images, by digest; "" without digests too
}

// wider is a glob and the position of its policy.
type wider struct {
	at   int
	glob Glob
}

func newReach() *reach {
	return &reach{byLiteral: map[string][]wider{}, byDigest: map[string][]int{}}
}

// add says that p stands before all that are asked about later.
func (r *reach) add(p *Policy) {
	at := len(r.policies)
	r.policies = append(r.policies, p)
	for _, g := range p.Images {
		r.byLiteral[g.literal] = append(r.byLiteral[g.literal], wider{at, g})
	}
	if len(p.Images) > 0 {
		return
	}
	for _, d := range digestsOf(p) {
		r.byDigest[d] = append(r.byDigest[d], at)
	}
}

// unreachable returns the policies added so far that together match everything
// p matches, or nil when some image may still reach p. An expired policy still
// matches, so its expiry does not matter.
func (r *reach) unreachable(p *Policy) []*Policy {
	images := p.Images
	if len(images) == 0 {
		anywhere := "*/**"
		images = []Glob{{text: anywhere, tokens: compileGlob(anywhere)}}
	}

	var by []*Policy
	for _, g := range images {
		for _, d := range digestsOf(p) {
			for _, c := range clientsOf(p) {
				q := r.coveredBy(part{g, d, c})
				if q == nil {
					return nil
				}
				if len(by) == 0 || by[len(by)-1] != q {
					by = append(by, q)
				}
			}
		}
	}
	return by
}

// digestsOf are p's digests, one that is empty for every digest.
func digestsOf(p *Policy) []string {
	if len(p.Digests) == 0 {
		return []string{""}
	}
	return p.Digests
}

// clientsOf are p's patterns of clients, one that is zero for everybody.
func clientsOf(p *Policy) []Clients {
	if len(p.Clients) == 0 {
		return []Clients{{}}
	}
	return p.Clients
}

// part is some of what a policy matches: what a glob does, at a digest, or at
// every digest when that is empty, for some clients, or everybody when they are
// zero.
type part struct {
	images  Glob
	digest  string
	clients Clients
}

// coversClients reports whether p is for all clients of such a part. A policy for
// some clients never is for everybody: some have neither name nor address.
func (p *Policy) coversClients(clients Clients) bool {
	if len(p.Clients) == 0 || clients.isZero() {
		return len(p.Clients) == 0
	}
	return slices.ContainsFunc(p.Clients, func(c Clients) bool { return c.Covers(clients) })
}

// coveredBy finds the first policy that matches the whole part.
func (r *reach) coveredBy(p part) *Policy {
	first := len(r.policies)
	for _, d := range []string{"", p.digest} {
		for _, at := range r.byDigest[d] {
			if r.policies[at].coversClients(p.clients) {
				first = min(first, at)
				break
			}
		}
	}

	for n := range len(p.images.literal) + 1 {
		for _, w := range r.byLiteral[p.images.literal[:n]] {
			if w.at >= first {
				break
			}
			q := r.policies[w.at]
			if len(q.Digests) > 0 && (p.digest == "" || !q.matchesDigest(p.digest)) {
				continue
			}
			if q.coversClients(p.clients) && w.glob.Covers(p.images) {
				first = w.at
				break
			}
		}
	}

	if first == len(r.policies) {
		return nil
	}
	return r.policies[first]
}
