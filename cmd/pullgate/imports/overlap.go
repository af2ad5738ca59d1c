package imports

import "strings"

// overlap walks two globs at once: a state is a position in each.
func overlap(a, b string) bool {
	// "/**/" also matches "/": as a run of anything after the "/" it matches more.
	a, b = widen(a), widen(b)

	type state struct{ i, j int }
	seen := map[state]bool{}
	var meet func(i, j int) bool
	meet = func(i, j int) bool {
		if i == len(a) && j == len(b) {
			return true
		}
		if seen[state{i, j}] {
			return false
		}
		seen[state{i, j}] = true

		wildA, nextA := wild(a, i)
		wildB, nextB := wild(b, j)
		if wildA != 0 && meet(nextA, j) || wildB != 0 && meet(i, nextB) {
			return true
		}

		switch {
		case i == len(a) || j == len(b):
			return false
		case wildA != 0 && wildB != 0:
			return false // both may end here, and what follows is tried above
		case wildA != 0:
			return (wildA == 2 || b[j] != '/') && meet(i, j+1)
		case wildB != 0:
			return (wildB == 2 || a[i] != '/') && meet(i+1, j)
		}
		return a[i] == b[j] && meet(i+1, j+1)
	}
	return meet(0, 0)
}

func widen(glob string) string {
	glob = strings.ReplaceAll(glob, "/**/", "/**")
	if rest, ok := strings.CutPrefix(glob, "**/"); ok {
		return "**" + rest
	}
	return glob
}

// wild says which wildcard stands at i (1: *, 2: **, 0: none) and what follows.
func wild(glob string, i int) (kind, next int) {
	switch {
	case strings.HasPrefix(glob[i:], "**"):
		return 2, i + 2
	case strings.HasPrefix(glob[i:], "*"):
		return 1, i + 1
	}
	return 0, i
}
