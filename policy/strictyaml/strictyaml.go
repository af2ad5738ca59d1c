// Package strictyaml reads YAML that a person wrote. Every value knows its
// place in the file, so that each problem can name the line to look at.
//
// It hides nothing that its callers have to judge: an alias is an error, a name
// that a mapping has twice is a field with a note, a merge key is a field like
// any other, and null is a value. It has no words for what is wrong and knows
// no format: configuration, policies and imports say these things to different
// people. It reads no files and bounds no sizes; a caller bounds the text
// before it parses it.
package strictyaml

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var (
	// ErrAlias is about a value that stands elsewhere in the file. Aliases are
	// refused: they hide which value says what, and can explode.
	ErrAlias = errors.New("is a YAML alias")
	// ErrKind is about a value of another kind than the one asked for.
	ErrKind = errors.New("is of another kind")
)

// Documents parses the YAML documents of text, of which JSON is one. Each is a
// document node; an error is the last thing it yields.
func Documents(text []byte) iter.Seq2[*yaml.Node, error] {
	return func(yield func(*yaml.Node, error) bool) {
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var document yaml.Node
			err := decoder.Decode(&document)
			if errors.Is(err, io.EOF) {
				return
			}

			if !yield(&document, explain(text, err)) || err != nil {
				return
			}
		}
	}
}

// Value is one node of a file, and where it stands.
type Value struct {
	Node *yaml.Node
	File string
	Path string // what leads to it, "spec.authorities[0].key"; a caller may call it otherwise
	Line int    // of the field's name; of the value itself where it has none
}

// At is where the value itself stands.
func (v Value) At() Position { return Position{File: v.File, Line: v.Node.Line} }

// NameAt is where the name of the value's field stands.
func (v Value) NameAt() Position { return Position{File: v.File, Line: v.Line} }

// IsNull reports whether nothing is written where the value should be.
func (v Value) IsNull() bool { return v.Node.ShortTag() == "!!null" }

// Is returns nil if the value is of this kind and, unless tag is empty, has
// this short tag ("!!str"). Else the error is ErrAlias or ErrKind.
func (v Value) Is(kind yaml.Kind, tag string) error {
	switch {
	case v.Node.Kind == yaml.AliasNode:
		return ErrAlias
	case v.Node.Kind != kind || tag != "" && v.Node.ShortTag() != tag:
		return ErrKind
	}
	return nil
}

// Field is one entry of a mapping; the Value is what its name stands for.
type Field struct {
	Value
	Name string
	Key  *yaml.Node

	// First is the line at which the mapping already has this name; 0 where it
	// has not.
	First int
}

// IsMerge reports whether the field is a merge key (<<), which would bring in
// the fields of another mapping.
func (f Field) IsMerge() bool { return f.Key.Kind == yaml.ScalarNode && f.Key.ShortTag() == "!!merge" }

// Fields are the entries of a mapping, in the order written. A value of another
// kind has none.
func (v Value) Fields() []Field {
	if v.Node.Kind != yaml.MappingNode {
		return nil
	}

	fields := make([]Field, 0, len(v.Node.Content)/2)
	lines := map[string]int{}
	for i := 0; i+1 < len(v.Node.Content); i += 2 {
		key := v.Node.Content[i]
		fields = append(fields, Field{
			Value: Value{
				Node: v.Node.Content[i+1],
				File: v.File,
				Path: strings.TrimPrefix(v.Path+"."+key.Value, "."),
				Line: key.Line,
			},
			Name:  key.Value,
			Key:   key,
			First: lines[key.Value],
		})
		if lines[key.Value] == 0 {
			lines[key.Value] = key.Line
		}
	}
	return fields
}

// Items are the values of a list. A value of another kind has none.
func (v Value) Items() []Value {
	if v.Node.Kind != yaml.SequenceNode {
		return nil
	}

	items := make([]Value, len(v.Node.Content))
	for i, node := range v.Node.Content {
		items[i] = Value{
			Node: node,
			File: v.File,
			Path: v.Path + "[" + strconv.Itoa(i) + "]",
			Line: node.Line,
		}
	}
	return items
}
