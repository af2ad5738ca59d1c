package imports

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.Contains(s, "\n") {
		n.Style = yaml.LiteralStyle
	}
	return n
}

func quoted(s string) *yaml.Node {
	n := text(s)
	n.Style = yaml.DoubleQuotedStyle
	return n
}

func word(tag, s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s} }

func sequence(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Content: items}
}

func texts(write func(string) *yaml.Node, list []string) *yaml.Node {
	n := sequence()
	for _, s := range list {
		n.Content = append(n.Content, write(s))
	}
	return n
}

// mapping is written in the order its fields are put.
type mapping struct{ yaml.Node }

func newMapping() *mapping { return &mapping{yaml.Node{Kind: yaml.MappingNode}} }

func (m *mapping) put(name string, value *yaml.Node) {
	m.Content = append(m.Content, text(name), value)
}

func (m *mapping) putText(name, value string) {
	if value != "" {
		m.put(name, text(value))
	}
}

func (m *mapping) putTable(name string, table map[string]string) {
	if len(table) == 0 {
		return
	}
	t := newMapping()
	for _, key := range slices.Sorted(maps.Keys(table)) {
		t.put(key, quoted(table[key]))
	}
	m.put(name, &t.Node)
}
