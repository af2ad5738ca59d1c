package server

import (
	"path/filepath"
	"slices"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

// checkTrust reports trust roots in files that are none, and authorities that
// demand evidence which their root cannot give. Roots and keys that have to be
// fetched count as good until they are.
func (l *Loaded) checkTrust() []policy.Problem {
	var list []policy.Problem
	given := sigs.Trust{Roots: map[string]*sigs.Root{}}

	for _, r := range l.Policies.TrustRoots() {
		if r.JSON == nil {
			continue
		}
		root, err := sigs.ParseRoot(r.Name, r.JSON)
		if err != nil {
			list = append(list, r.Where.Problem("trust root %q: %v", r.Name, err))
			continue
		}
		given.Roots[r.Name] = root
	}

	for _, p := range l.Policies.Policies() {
		for _, a := range p.Authorities {
			if _, err := sigs.NewAuthority(a, nil, given); err != nil {
				list = append(list, p.Where.Problem("policy %q: authority %q: %v", p.Name, a.Name, err))
			}
		}
	}
	return list
}

// unfit names the fetched roots that cannot give what some policy demands of
// them: a root may lose its log or its timestamp authority from one day to the
// next.
func (l *Loaded) unfit(trusted sigs.Trust) []string {
	var names []string
	for _, r := range l.Policies.TrustRoots() {
		root := trusted.Roots[r.Name]
		if r.JSON != nil || root == nil {
			continue
		}

		alone := sigs.Trust{Roots: map[string]*sigs.Root{r.Name: root}, Keys: trusted.Keys}
		if slices.ContainsFunc(l.Policies.Policies(), func(p *policy.Policy) bool {
			return demandsMore(p, r.Name, alone)
		}) {
			names = append(names, r.Name)
		}
	}
	return names
}

// demandsMore reports whether an authority of p relies on the root name and
// demands what trusted, which holds that root alone, does not give.
func demandsMore(p *policy.Policy, name string, trusted sigs.Trust) bool {
	return slices.ContainsFunc(p.Authorities, func(a policy.Authority) bool {
		_, err := sigs.NewAuthority(a, nil, trusted)
		return err != nil && slices.Contains(a.TrustRoots, name)
	})
}

// trustDir is where fetched roots and keys are kept, beside the state.
func (l *Loaded) trustDir() string { return filepath.Join(l.Config.StatePath(), "trust") }
