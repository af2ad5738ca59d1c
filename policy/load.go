package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxPolicyFile bounds a policy file, in bytes.
const maxPolicyFile = 4 << 20

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
}

// CanaryName names the policy that refuses the canary; no other may be called so.
const CanaryName = "canary"

// Load reads, checks and compiles the policies: the inline ones, then those of
// the files. It returns every problem at once, in the order of the files and
// their lines. With any problem the returned Set denies everything and only
// knows its Files.
func Load(in Input) (*Set, []Problem) {
	l := &loader{}
	if !in.Canary.IsZero() {
		l.canary = canaryPolicy(in)
	}
	inline := source{file: in.ConfigFile, dir: in.Dir, problems: &l.problems}
	l.order = append(l.order, in.ConfigFile)
	if in.TrustRoots != nil {
		l.trustRootList(inline, in.TrustRoots)
	}
	if in.Inline != nil {
		l.policyList(inline, in.Inline)
	}
	atLine := func(line int) *yaml.Node { return &yaml.Node{Line: line} }
	for _, pattern := range in.Files {
		paths, err := findFiles(in.Dir, pattern)
		if err != nil {
			inline.problem(atLine(in.FilesLine), "%v", err)
		}
		for _, path := range paths {
			if !slices.Contains(l.order, path) {
				l.order = append(l.order, path)
				l.policyFile(path)
			}
		}
	}
	switch in.DefaultAction {
	case "", denyByDefault, warnByDefault, allowByDefault:
	default:
		inline.problem(
			atLine(in.DefaultActionLine),
			"defaultAction must be deny or warn or allow, not %q",
			in.DefaultAction,
		)
	}
	l.checkRoots()
	l.checkOrder()
	if len(l.problems) > 0 {
		slices.SortStableFunc(l.problems, func(a, b Problem) int {
			return cmp.Or(
				cmp.Compare(slices.Index(l.order, a.File), slices.Index(l.order, b.File)),
				cmp.Compare(a.Line, b.Line),
			)
		})
		return &Set{files: l.files}, l.problems
	}
	if l.canary != nil {
		l.policies = append([]*Policy{l.canary}, l.policies...)
	}
	return (&Set{
		policies: l.policies,
		fallback: defaultPolicy(in.DefaultAction),
		files:    l.files,
		roots:    l.roots,
	}).index(), nil
}

// loader gathers what the files hold.
type loader struct {
	policies []*Policy
	at       []entry // of each policy
	problems []Problem
	order    []string // files of policies, as read
	files    []string // every file read
	canary   *Policy  // nil: none
	roots    []TrustRoot
	rootUses []rootUse
}

// canaryPolicy denies in writing, so that no warn mode weakens it.
func canaryPolicy(in Input) *Policy {
	name := in.Canary.String()
	p := &Policy{
		Name:   CanaryName,
		Where:  Position{in.ConfigFile, in.CanaryLine},
		Static: Deny,
		Images: []Glob{{text: name, literal: name, tokens: compileGlob(name)}},
	}
	p.Hash = hashPolicy(p)
	return p
}

// entry is where a policy stands.
type entry struct {
	source source
	node   *yaml.Node
	match  bool // its images and digests could be read whole
}

// findFiles expands a glob below dir. One without wildcards must exist.
func findFiles(dir, pattern string) ([]string, error) {
	if pattern == "" {
		return nil, errors.New("policyFiles has an empty entry: remove it")
	}
	full := pattern
	if !filepath.IsAbs(pattern) {
		// The directory's own name is no pattern.
		escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)
		full = filepath.Join(escape.Replace(dir), pattern)
	}
	// Glob takes a folder that is gone, or cannot be read, for an empty one, and
	// the denials in it would be gone with it.
	if folder := filepath.Dir(pattern); !strings.ContainsAny(folder, `*?[`) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		if _, err := os.ReadDir(folder); err != nil {
			return nil, fmt.Errorf("policyFiles: %q: its folder cannot be read: %w", pattern, err)
		}
	}
	paths, err := filepath.Glob(full)
	if err != nil {
		return nil, fmt.Errorf("policyFiles: %q is not a valid glob: %w", pattern, err)
	}
	if len(paths) == 0 && !strings.ContainsAny(pattern, `*?[`) {
		return nil, fmt.Errorf("policyFiles: %q does not exist", pattern)
	}
	slices.Sort(paths)
	return paths, nil
}

func (l *loader) policyFile(path string) {
	s := source{file: path, dir: filepath.Dir(path), problems: &l.problems}
	text, err := l.read(path, maxPolicyFile)
	if err != nil {
		s.problem(&yaml.Node{}, "%v", err)
		return
	}
	doc, err := parseDocument(text)
	if err != nil {
		s.problem(&yaml.Node{Line: errorLine(err)}, "%v", err)
		return
	}
	if doc.Kind != yaml.MappingNode {
		l.policyList(s, doc)
		return
	}
	fields, _ := s.mapping(doc, "a policy file")
	s.known(fields, "a policy file", []string{"policies", "trustRoots"})
	found := false
	for _, f := range fields {
		switch f.name {
		case "policies":
			found = true
			l.policyList(s, f.value)
		case "trustRoots":
			found = true
			l.trustRootList(s, f.value)
		}
	}
	if !found {
		s.problem(doc, "a policy file must have policies: or trustRoots:, or be a list of policies")
	}
}

// read returns a whole file of at most limit bytes. Anything that is not a
// regular file is refused: a pipe could be waited for forever.
func (l *loader) read(path string, limit int64) ([]byte, error) {
	if !slices.Contains(l.files, path) {
		l.files = append(l.files, path)
	}
	info, err := os.Stat(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read %s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, limit>>10)
	}
	return text, nil
}

// parseDocument reads the one YAML document of a policy file.
func parseDocument(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) != 1 {
		return nil, errors.New("holds no policies: write policies: [] if that is meant")
	}
	if err != nil {
		return nil, err
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("line %d: a second YAML document: put all policies into one list", more.Line)
	}
	return doc.Content[0], nil
}

// errorLine finds the "line N:" of a parser's error, 0 without one.
func errorLine(err error) int {
	_, after, _ := strings.Cut(err.Error(), "line ")
	digits, _, _ := strings.Cut(after, ":")
	line, _ := strconv.Atoi(digits)
	return max(line, 0)
}

func (l *loader) policyList(s source, n *yaml.Node) {
	nodes, ok := s.list(n, "policies")
	if !ok {
		return
	}
	for _, node := range nodes {
		if p, match := l.policy(s, node); p != nil {
			l.policies = append(l.policies, p)
			l.at = append(l.at, entry{s, node, match})
		}
	}
}

// checkOrder finds names used twice and policies that nothing can reach.
func (l *loader) checkOrder() {
	first := map[string]*Policy{}
	earlier := newReach()
	for i, p := range l.policies {
		at := l.at[i]
		if q := first[p.Name]; q != nil && p.Name != "" {
			at.source.problem(at.node, "policy name %q is already used at %s: names must differ", p.Name, q.Where)
		} else {
			first[p.Name] = p
		}
		if !at.match {
			continue // reported already, and nobody knows what it matches
		}
		if by := earlier.unreachable(p); by != nil {
			var names []string
			for _, q := range by {
				names = append(names, fmt.Sprintf("%q (%s)", q.Name, q.Where))
			}
			slices.Sort(names)
			at.source.problem(
				at.node,
				"policy %q is never reached: %s before it matches everything it matches; move it up or remove it",
				p.Name,
				strings.Join(slices.Compact(names), " and "),
			)
		}
		earlier.add(p)
	}
}
