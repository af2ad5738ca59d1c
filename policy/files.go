package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy/foreign"
	"github.com/pullgate/pullgate/policy/strictyaml"
)

// maxPolicyFile bounds a policy file, in bytes.
const maxPolicyFile = 4 << 20

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

// policyFile reads one file of policies, trust roots or both.
func (l *loader) policyFile(path string) {
	report := func(line int, err error) {
		l.problems = append(l.problems, Position{File: path, Line: line}.Problem("%v", err))
	}
	text, err := l.read(path, maxPolicyFile)
	if err != nil {
		report(0, err)
		return
	}
	node, err := parseDocument(text)
	if err != nil {
		report(strictyaml.ErrorLine(err), err)
		return
	}

	s := source{file: path, dir: filepath.Dir(path), problems: &l.problems}
	document := s.value(node, "a policy file")
	switch {
	case document.isForeign():
		return
	case node.Kind != yaml.MappingNode:
		l.policyList(document.called("policies"))
		return
	}

	fields, _ := document.mapping()
	known(fields, []string{"policies", "trustRoots"})
	found := false
	for _, f := range fields {
		switch f.name {
		case "policies":
			found = true
			l.policyList(f.called(f.name))
		case "trustRoots":
			found = true
			l.trustRootList(f.called(f.name))
		}
	}
	if !found {
		document.problem("a policy file must have policies: or trustRoots:, or be a list of policies")
	}
}

// isForeign reports whether a document is another program's policy.
func isForeign(root *yaml.Node) bool {
	_, ok := foreign.Recognize(root)
	return ok
}

// isForeign reports whether v is another program's policy, and the problem, which
// says how it becomes one of pullgate's.
func (v value) isForeign() bool {
	document, ok := foreign.Recognize(v.Node)
	switch {
	case document.Format != "":
		v.problem(
			"%s must be pullgate's, and this is %s: use `pullgate import %s %s`, and name what it prints here",
			v.Path,
			document.What,
			document.Format,
			v.File,
		)
	case document.Advice != "":
		v.problem(
			"%s must be pullgate's, and this is %s: %s (`pullgate import`)",
			v.Path,
			document.What,
			document.Advice,
		)
	case ok:
		v.problem("%s must be pullgate's, and this is %s: take it out of policyFiles", v.Path, document.What)
	}
	return ok
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
	var root *yaml.Node
	for document, err := range strictyaml.Documents(text) {
		switch {
		case err != nil:
			return nil, err
		case root != nil && isForeign(root):
			return root, nil // whatever follows, the first says what to do
		case root != nil:
			return nil, fmt.Errorf("line %d: a second YAML document: put all policies into one list", document.Line)
		case len(document.Content) != 1:
			return nil, errNoPolicies
		}
		root = document.Content[0]
	}

	if root == nil {
		return nil, errNoPolicies
	}
	return root, nil
}

var errNoPolicies = errors.New("holds no policies: write policies: [] if that is meant")
