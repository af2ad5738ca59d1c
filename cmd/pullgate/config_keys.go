package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// keySet is the keys a mapping may hold; a nil child is read elsewhere.
type keySet map[string]keySet

// knownKeys derives the allowed keys from the struct itself, so that neither
// can drift from the other.
func knownKeys() keySet { return keysOf(reflect.TypeFor[config]()) }

func keysOf(t reflect.Type) keySet {
	for t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	keys := keySet{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("mapstructure"); name != "" {
			keys[name] = keysOf(t.Field(i).Type)
		}
	}
	return keys
}

// unknownKeys lists keys that are mistyped, of another case, or written twice;
// viper would take them or drop them without a word.
func unknownKeys(node *yaml.Node, path string, known keySet) []policy.Problem {
	if known == nil {
		return nil
	}
	var list []policy.Problem
	switch node.Kind {
	case yaml.SequenceNode:
		for _, item := range node.Content {
			list = append(list, unknownKeys(item, path, known)...)
		}
	case yaml.AliasNode:
		list = append(list, policy.Problem{Line: node.Line, Message: "aliases are not read here; write the value out"})
	case yaml.MappingNode:
		seen := map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			full := strings.TrimPrefix(path+"."+key.Value, ".")
			children, ok := known[key.Value]
			switch {
			case !ok:
				list = append(list, policy.Problem{Line: key.Line, Message: fmt.Sprintf("unknown key %q%s", full, suggest(key.Value, known))})
			case seen[key.Value]:
				list = append(list, policy.Problem{Line: key.Line, Message: fmt.Sprintf("key %q is written twice", full)})
			default:
				list = append(list, unknownKeys(value, full, children)...)
			}
			seen[key.Value] = true
		}
	}
	return list
}

func suggest(key string, known keySet) string {
	var names []string
	for name := range known {
		if strings.EqualFold(name, key) {
			return fmt.Sprintf("; it is spelt %q", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return "; known here: " + strings.Join(names, ", ")
}
