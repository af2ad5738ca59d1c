package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// Problem is a problem at a key, written as a path: "limits.signatures", or
// "upstreams.0.url" for the first of a list. At the empty path, and where the
// file does not hold the key, the problem has no line.
func (c *Config) Problem(path, format string, args ...any) policy.Problem {
	at := policy.Position{File: c.file}
	if path != "" {
		at.Line = c.line(strings.Split(path, ".")...)
	}
	return at.Problem(format, args...)
}

// line is the line of the value of a key; 0 when the file does not hold it.
func (c *Config) line(path ...string) int {
	node := c.nodes
	for _, key := range path {
		node = child(node, key)
		if node == nil {
			return 0
		}
	}
	return node.Line
}

// child is the value of a key of a mapping, or an item of a list by its number;
// nil when there is none.
func child(node *yaml.Node, key string) *yaml.Node {
	if node == nil {
		return nil
	}

	if i, err := strconv.Atoi(key); err == nil && node.Kind == yaml.SequenceNode && i < len(node.Content) {
		return node.Content[i]
	}

	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}
