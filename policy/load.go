package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Input is what the configuration says about policies.
type Input struct {
	ConfigFile string     // named in problems
	Dir        string     // what relative paths in the configuration are relative to
	Inline     *yaml.Node // the value of policies:, may be nil
	TrustRoots *yaml.Node // the value of trustRoots:, may be nil
	Files      []string   // globs of policy files, in order; each one's files sorted by name
	FilesLine  int        // line of policyFiles: in ConfigFile, 0 when unknown

	DefaultAction     string // deny, warn or allow; empty: deny
	DefaultActionLine int    // 0 when unknown

	// Canary is a repository that is always refused, before every other policy;
	// the zero value is none.
	Canary     Repository
	CanaryLine int // 0 when unknown

	// ImpliedPort says whether a registry is configured under a familiar name, and
	// which port that name means when none is written. Names in policies then mean
	// that registry with and without the port. Nil: no registry is known.
	ImpliedPort func(host string) (port string, ok bool)
}

// CanaryName names the policy that refuses the canary; no other may be called so.
const CanaryName = "canary"

// CanaryNonce begins the tags that `pullgate doctor` makes for one examination
// each. No such tag exists: a request for it belongs to that examination.
const CanaryNonce = "pullgate-doctor-"

// Load reads, checks and compiles the policies: the inline ones, then those of
// the files. It returns every problem at once, in the order of the files and
// their lines. With any problem the returned Set denies everything and only
// knows its Files.
func Load(in Input) (*Set, []Problem) {
	l := &loader{impliedPort: in.ImpliedPort}
	l.inline(in)
	l.policyFiles(in)
	switch in.DefaultAction {
	case "", denyByDefault, warnByDefault, allowByDefault:
	default:
		at := Position{File: in.ConfigFile, Line: in.DefaultActionLine}
		l.problems = append(l.problems, at.Problem(
			"defaultAction must be deny or warn or allow, not %q",
			in.DefaultAction,
		))
	}
	l.checkRoots()
	l.checkOrder()

	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, l.compareProblems)
		return &Set{files: l.files}, l.problems
	}

	if !in.Canary.IsZero() {
		l.policies = append([]*Policy{canaryPolicy(in)}, l.policies...)
	}
	set := &Set{
		policies: l.policies,
		fallback: defaultPolicy(in.DefaultAction),
		files:    l.files,
		roots:    l.roots,
	}
	return set.index(), nil
}

// loader gathers what the files hold.
type loader struct {
	policies []*Policy
	entries  []entry // of each policy
	problems []Problem
	order    []string // files of policies, as read
	files    []string // every file read
	roots    []TrustRoot
	rootUses []rootUse

	impliedPort func(host string) (port string, ok bool) // nil: no registry is known
}

// entry is where a policy stands.
type entry struct {
	value
	match bool // its images and digests could be read whole
}

// inline reads what stands in the configuration itself.
func (l *loader) inline(in Input) {
	s := source{file: in.ConfigFile, dir: in.Dir, problems: &l.problems}
	l.order = append(l.order, in.ConfigFile)
	if in.TrustRoots != nil {
		l.trustRootList(s.value(in.TrustRoots, "trustRoots"))
	}
	if in.Inline != nil {
		l.policyList(s.value(in.Inline, "policies"))
	}
}

// policyFiles reads the files that the globs name, each once.
func (l *loader) policyFiles(in Input) {
	for _, pattern := range in.Files {
		paths, err := findFiles(in.Dir, pattern)
		if err != nil {
			at := Position{File: in.ConfigFile, Line: in.FilesLine}
			l.problems = append(l.problems, at.Problem("%v", err))
		}

		for _, path := range paths {
			if !slices.Contains(l.order, path) {
				l.order = append(l.order, path)
				l.policyFile(path)
			}
		}
	}
}

// compareProblems orders problems by their files, as read, and their lines.
func (l *loader) compareProblems(a, b Problem) int {
	return cmp.Or(
		cmp.Compare(slices.Index(l.order, a.File), slices.Index(l.order, b.File)),
		cmp.Compare(a.Line, b.Line),
	)
}

// canaryPolicy is an explicit deny, so that no warn mode weakens it.
func canaryPolicy(in Input) *Policy {
	name := in.Canary.String()
	p := &Policy{
		Name:   CanaryName,
		Where:  Position{File: in.ConfigFile, Line: in.CanaryLine},
		Static: Deny,
		Images: []Glob{{text: name, literal: name, tokens: compileGlob(name)}},
	}
	p.Hash = hashPolicy(p)
	return p
}

func (l *loader) policyList(v value) {
	items, ok := v.list()
	if !ok {
		return
	}
	for _, item := range items {
		item = item.called("a policy")
		if p, match := l.policy(item); p != nil {
			l.policies = append(l.policies, p)
			l.entries = append(l.entries, entry{item, match})
		}
	}
}

// checkOrder finds names used twice and policies that nothing can reach.
func (l *loader) checkOrder() {
	first := map[string]*Policy{}
	earlier := newReach()
	for i, p := range l.policies {
		at := l.entries[i]
		if q := first[p.Name]; q != nil && p.Name != "" {
			at.problem("policy name %q is already used at %s: names must differ", p.Name, q.Where)
		} else {
			first[p.Name] = p
		}

		if !at.match {
			continue // reported already; what it matches is not known
		}
		if by := earlier.unreachable(p); by != nil {
			at.problem(
				"policy %q is never reached: %s before it matches everything it matches; move it up or remove it",
				p.Name,
				strings.Join(namesOf(by), " and "),
			)
		}
		earlier.add(p)
	}
}

// namesOf are the names of policies and their places, sorted, each once.
func namesOf(policies []*Policy) []string {
	var names []string
	for _, p := range policies {
		names = append(names, fmt.Sprintf("%q (%s)", p.Name, p.Where))
	}
	slices.Sort(names)
	return slices.Compact(names)
}
