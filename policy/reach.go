package policy

// reach finds policies that earlier ones leave nothing to. Policies are added
// in their order. It looks only at globs that begin as the one in question does,
// so that a long list costs little more per policy than a short one.
type reach struct {
	policies  []*Policy
	byLiteral map[string][]wider // globs by what every match starts with
	byDigest  map[string]int     // the first policy without images, by digest; "" without digests too
}

// wider is a glob and the position of its policy.
type wider struct {
	at   int
	glob Glob
}

func newReach() *reach {
	return &reach{byLiteral: map[string][]wider{}, byDigest: map[string]int{}}
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
		if _, known := r.byDigest[d]; !known {
			r.byDigest[d] = at
		}
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
			q := r.coveredBy(g, d)
			if q == nil {
				return nil
			}
			if len(by) == 0 || by[len(by)-1] != q {
				by = append(by, q)
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

// coveredBy finds the first policy that matches whatever g matches, at the
// digest, or at every digest when that is empty.
func (r *reach) coveredBy(g Glob, digest string) *Policy {
	first := len(r.policies)
	for _, d := range []string{"", digest} {
		if at, ok := r.byDigest[d]; ok {
			first = min(first, at)
		}
	}

	for n := range len(g.literal) + 1 {
		for _, w := range r.byLiteral[g.literal[:n]] {
			if w.at >= first {
				break
			}
			q := r.policies[w.at]
			if len(q.Digests) > 0 && (digest == "" || !q.matchesDigest(digest)) {
				continue
			}
			if w.glob.Covers(g) {
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
