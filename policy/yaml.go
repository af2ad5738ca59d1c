package policy

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// source is the file whose nodes are being read.
type source struct {
	file     string
	dir      string // what its relative paths are relative to
	problems *[]Problem
}

// at is where n stands.
func (s source) at(n *yaml.Node) Position { return Position{s.file, n.Line} }

func (s source) problem(n *yaml.Node, format string, args ...any) {
	*s.problems = append(*s.problems, s.at(n).Problem(format, args...))
}

// field is one entry of a mapping.
type field struct {
	name       string
	key, value *yaml.Node
}

// mapping reads a mapping's fields; each problem is reported. Aliases and
// merge keys are refused: they hide which policy says what, and can explode.
func (s source) mapping(n *yaml.Node, what string) ([]field, bool) {
	if !s.kind(n, yaml.MappingNode, "!!map", what, "a mapping") {
		return nil, false
	}
	var fields []field
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			s.problem(key, "%s: merge keys (<<) are not supported: write the fields out", what)
			continue
		}
		name, ok := s.text(key, "a field name of "+what)
		if !ok {
			continue
		}
		if first, twice := lines[name]; twice {
			s.problem(key, "%s: field %q is there twice, first at line %d", what, name, first)
			continue
		}
		lines[name] = key.Line
		fields = append(fields, field{name, key, value})
	}
	return fields, true
}

// known reports the fields that are not among names.
func (s source) known(fields []field, what string, names []string) {
	for _, f := range fields {
		if !slices.Contains(names, f.name) {
			s.problem(f.key, "%s: unknown field %q (known: %s)", what, f.name, strings.Join(names, ", "))
		}
	}
}

func (s source) list(n *yaml.Node, what string) ([]*yaml.Node, bool) {
	if !s.kind(n, yaml.SequenceNode, "!!seq", what, "a list") {
		return nil, false
	}
	return n.Content, true
}

// texts reads a list of strings that must not be empty: an empty list would
// silently mean "any".
func (s source) texts(n *yaml.Node, what string) (nodes []*yaml.Node, ok bool) {
	nodes, ok = s.list(n, what)
	if ok && len(nodes) == 0 {
		s.problem(n, "%s is empty: fill it or leave it out", what)
		return nil, false
	}
	return nodes, ok
}

func (s source) text(n *yaml.Node, what string) (string, bool) {
	if !s.kind(n, yaml.ScalarNode, "!!str", what, "text (in quotes, when it looks like a number or a word like yes)") {
		return "", false
	}
	return n.Value, true
}

func (s source) integer(n *yaml.Node, what string) (int, bool) {
	if !s.kind(n, yaml.ScalarNode, "!!int", what, "a whole number") {
		return 0, false
	}
	i, err := strconv.Atoi(n.Value)
	if err != nil {
		s.problem(n, "%s must be a whole number in decimal digits, not %s", what, brief(n))
		return 0, false
	}
	return i, true
}

// choice reads one of a few words.
func (s source) choice(n *yaml.Node, what string, words ...string) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" && slices.Contains(words, n.Value) {
		return n.Value, true
	}
	s.problem(n, "%s must be %s, not %s", what, strings.Join(words, " or "), brief(n))
	return "", false
}

func (s source) kind(n *yaml.Node, kind yaml.Kind, tag, what, want string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		s.problem(n, "%s: YAML aliases are not supported: write it out", what)
	case n.Kind != kind || n.ShortTag() != tag:
		s.problem(n, "%s must be %s, not %s", what, want, brief(n))
	default:
		return true
	}
	return false
}

// brief describes a node for a message.
func brief(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.ShortTag() == "!!null" {
		return "empty"
	}
	if len(n.Value) > 80 {
		return strconv.Quote(n.Value[:80]) + "…"
	}
	return strconv.Quote(n.Value)
}
