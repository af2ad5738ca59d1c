package imports

import "slices"

// takeApart writes a need of all its signers as one need for each.
func (a *asking) takeApart() {
	var needs []need
	var at []value
	for i, n := range a.needs {
		if n.count < len(n.who) {
			needs, at = append(needs, n), append(at, a.at[i])
			continue
		}
		for _, one := range n.who {
			needs, at = append(needs, need{count: 1, who: []authority{one}, kind: n.kind}), append(at, a.at[i])
		}
	}
	a.needs, a.at = needs, at
}

// dropImplied removes the needs that hold wherever the others do, as one for a
// wide identity does beside one for a narrow identity: a signature that
// satisfies the narrow one satisfies both. Of two that are alike the first
// stays.
func (a *asking) dropImplied() {
	for i := len(a.needs) - 1; i >= 0; i-- {
		if a.implied(i) {
			a.needs = slices.Delete(a.needs, i, i+1)
			a.at = slices.Delete(a.at, i, i+1)
		}
	}
}

// implied reports whether the i-th need holds wherever all others do.
func (a *asking) implied(i int) bool {
	n := a.needs[i]
	compare := &a.at[i].r.compare
	counts := func(other need, who, wide authority) bool {
		who.accept += other.kind
		wide.accept += n.kind
		return compare.within(who, wide)
	}

	reached := 0 // those of n that some signer who must sign counts for
	for _, wide := range n.who {
		if a.anyOther(i, func(other need) bool { return len(other.who) == 1 && counts(other, other.who[0], wide) }) {
			reached++
		}
	}
	if reached >= n.count {
		return true
	}

	// Whichever signers another need is content with, one of them counts for n.
	return n.count == 1 && a.anyOther(i, func(other need) bool {
		useless := 0
		for _, who := range other.who {
			if !slices.ContainsFunc(n.who, func(wide authority) bool { return counts(other, who, wide) }) {
				useless++
			}
		}
		return useless < other.count
	})
}

// anyOther reports whether a need beside the i-th is as asked.
func (a *asking) anyOther(i int, is func(need) bool) bool {
	for j, other := range a.needs {
		if j != i && is(other) {
			return true
		}
	}
	return false
}
