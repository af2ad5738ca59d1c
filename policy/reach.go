package policy

// unreachable returns the earlier policies that together match everything p
// matches, or nil when some image may still reach p. An expired policy still
// matches, so its expiry does not matter.
func unreachable(p *Policy, earlier []*Policy) []*Policy {
	images := p.Images
	if len(images) == 0 {
		anywhere := "*/**"
		images = []Glob{{text: anywhere, tokens: compileGlob(anywhere)}}
	}
	digests := p.Digests
	if len(digests) == 0 {
		digests = []string{""}
	}
	var by []*Policy
	for _, g := range images {
		for _, d := range digests {
			q := coveredBy(g, d, earlier)
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

// coveredBy finds an earlier policy that matches whatever g matches, at the
// digest, or at every digest when that is empty.
func coveredBy(g Glob, digest string, earlier []*Policy) *Policy {
	for _, q := range earlier {
		if len(q.Digests) > 0 && (digest == "" || !q.matchesDigest(digest)) {
			continue
		}
		if len(q.Images) == 0 {
			return q
		}
		for _, wider := range q.Images {
			if wider.Covers(g) {
				return q
			}
		}
	}
	return nil
}
