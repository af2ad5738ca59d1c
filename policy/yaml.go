package policy

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy/strictyaml"
)

// source is what the values of one file share.
type source struct {
	file     string
	dir      string // what its relative paths are relative to
	problems *[]Problem
}

// value gives a node of the file the name by which messages call it.
func (s source) value(n *yaml.Node, path string) value {
	return value{strictyaml.Value{
		Node: n,
		File: s.file,
		Path: path,
		Line: n.Line,
	}, s}
}

// absolute resolves a path written in the source.
func (s source) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.dir, path)
}

// value is one value of a policy file. Its Path is what messages call it, as in
// `policy "prod": authority 1: key`.
type value struct {
	strictyaml.Value
	source
}

// problem reports what is wrong with v. The format has the name of v in it.
func (v value) problem(format string, args ...any) {
	*v.problems = append(*v.problems, v.At().Problem(format, args...))
}

// called is v under another name.
func (v value) called(path string) value {
	v.Path = path
	return v
}

// field is one entry of a mapping.
type field struct {
	value
	name string
	key  value // the name, for problems about it; called as the mapping is
}

// mapping reads a mapping's fields; each problem is reported. Aliases and
// merge keys are refused: they hide which policy says what, and can explode.
func (v value) mapping() ([]field, bool) {
	if !v.is(yaml.MappingNode, "!!map", v.asMapping()) {
		return nil, false
	}

	var fields []field
	for _, f := range v.Fields() {
		key := v.source.value(f.Key, v.Path)
		if f.IsMerge() {
			key.problem("%s: merge keys (<<) are not supported: write the fields out", v.Path)
			continue
		}
		if _, ok := key.called("a field name of " + v.Path).text(); !ok {
			continue
		}
		if f.First > 0 {
			key.problem("%s: field %q is there twice, first at line %d", v.Path, f.Name, f.First)
			continue
		}
		fields = append(fields, field{value{f.Value, v.source}, f.Name, key})
	}
	return below(v.Path, fields), true
}

// below calls each field by the mapping's name and its own.
func below(mapping string, fields []field) []field {
	for i := range fields {
		fields[i].Path = mapping + ": " + fields[i].name
		fields[i].key.Path = mapping
	}
	return fields
}

// known reports the fields that are not among names.
func known(fields []field, names []string) {
	for _, f := range fields {
		if !slices.Contains(names, f.name) {
			f.key.problem(
				"%s: unknown field %q%s (known: %s)",
				f.key.Path,
				f.name,
				didYouMean(f.name, names),
				strings.Join(names, ", "),
			)
		}
	}
}

// didYouMean offers the known name that an unknown one is most like; it is empty
// where none is.
func didYouMean(unknown string, names []string) string {
	if name, ok := strictyaml.Nearest(unknown, names); ok {
		return fmt.Sprintf(": did you mean %q?", name)
	}
	return ""
}

// list reads a list, whose values are called as the list is.
func (v value) list() ([]value, bool) {
	if !v.is(yaml.SequenceNode, "!!seq", v.asList()) {
		return nil, false
	}

	var values []value
	for _, item := range v.Items() {
		values = append(values, value{item, v.source}.called(v.Path))
	}
	return values, true
}

// filled reads a list that must not be empty: an empty list would silently mean
// "any".
func (v value) filled() ([]value, bool) {
	values, ok := v.list()
	if ok && len(values) == 0 {
		v.problem("%s is empty: fill it or leave it out", v.Path)
		return nil, false
	}
	return values, ok
}

// texts reads a list of texts that must not be empty; a problem is reported for
// each item that is no text.
func (v value) texts() iter.Seq2[value, string] {
	return func(yield func(value, string) bool) {
		items, _ := v.filled()
		for _, item := range items {
			if text, ok := item.text(); ok && !yield(item, text) {
				return
			}
		}
	}
}

func (v value) text() (string, bool) {
	if !v.is(yaml.ScalarNode, "!!str", "text (in quotes, when it looks like a number or a word like yes)") {
		return "", false
	}
	return v.Node.Value, true
}

func (v value) integer() (int, bool) {
	if !v.is(yaml.ScalarNode, "!!int", "a whole number") {
		return 0, false
	}

	i, err := strconv.Atoi(v.Node.Value)
	if err != nil {
		v.problem("%s must be a whole number in decimal digits, not %s", v.Path, v.brief())
		return 0, false
	}
	return i, true
}

func (v value) boolean() bool {
	return v.is(yaml.ScalarNode, "!!bool", "true or false") && strings.EqualFold(v.Node.Value, "true")
}

// choice reads one of a few words; the empty text is none of them.
func (v value) choice(words ...string) string {
	if v.Is(yaml.ScalarNode, "!!str") == nil && slices.Contains(words, v.Node.Value) {
		return v.Node.Value
	}
	v.problem("%s must be %s, not %s", v.Path, strings.Join(words, " or "), v.brief())
	return ""
}

// is reports whether v is of the kind and tag, which want describes, and the
// problem when it is not.
func (v value) is(kind yaml.Kind, tag, want string) bool {
	err := v.Is(kind, tag)
	switch {
	case errors.Is(err, strictyaml.ErrAlias):
		v.problem("%s: YAML aliases are not supported: write it out", v.Path)
	case err != nil:
		v.problem("%s must be %s, not %s", v.Path, want, v.brief())
	}
	return err == nil
}

// asMapping says that v has to be a mapping. Of a text that looks like a field
// whose colon has no space behind it, it says what is missing.
func (v value) asMapping() string {
	name, rest, colon := strings.Cut(v.Node.Value, ":")
	if v.Node.Kind == yaml.ScalarNode && colon && rest != "" && !strings.HasPrefix(rest, "//") &&
		!strings.ContainsAny(name, " /") {
		return fmt.Sprintf("a mapping (with a space behind the colon: %.40s: …)", name)
	}
	return "a mapping (fields as NAME: VALUE)"
}

// asList says that v has to be a list, and how one text becomes one.
func (v value) asList() string {
	if v.Node.Kind == yaml.ScalarNode && !v.IsNull() && len(v.Node.Value) <= 80 {
		return fmt.Sprintf("a list ([%q])", v.Node.Value)
	}
	return "a list"
}

// brief describes what is written, for a message.
func (v value) brief() string {
	switch v.Node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}

	switch text := v.Node.Value; {
	case v.IsNull():
		return "empty"
	case len(text) > 80:
		return strconv.Quote(text[:80]) + "…"
	default:
		return strconv.Quote(text)
	}
}
