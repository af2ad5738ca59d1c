package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// keySet is the keys a mapping may hold; a nil child is read elsewhere.
type keySet map[string]keySet

// knownKeys derives the allowed keys from the struct itself, so that neither
// can drift from the other.
func knownKeys() keySet { return keysOf(reflect.TypeFor[Config]()) }

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
		list = append(list, problemAt(node, "aliases are not read here; write the value out"))
	case yaml.MappingNode:
		list = unknownInMapping(node, path, known)
	}
	return list
}

func unknownInMapping(node *yaml.Node, path string, known keySet) []policy.Problem {
	var list []policy.Problem
	seen := map[string]bool{}

	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		full := strings.TrimPrefix(path+"."+key.Value, ".")
		children, ok := known[key.Value]

		switch {
		case !ok:
			list = append(list, problemAt(key, "unknown key %q%s", full, suggest(key.Value, known)))
		case seen[key.Value]:
			list = append(list, problemAt(key, "key %q is written twice", full))
		default:
			list = append(list, unknownKeys(value, full, children)...)
		}
		seen[key.Value] = true
	}
	return list
}

// problemAt is a problem whose file is still to be filled in.
func problemAt(node *yaml.Node, format string, args ...any) policy.Problem {
	return policy.Position{Line: node.Line}.Problem(format, args...)
}

// suggest says what may have been meant by an unknown key.
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

// mistyped lists values of another type than their setting's. viper would bend
// them: 3600 into 3.6 microseconds, true into 1, 0100 into 64.
func mistyped(node *yaml.Node, path string, t reflect.Type) []policy.Problem {
	switch {
	case isScalar(t):
		if says := mistypedScalar(node, t); says != "" {
			return []policy.Problem{problemAt(node, "%s %s", path, says)}
		}
		return nil

	case t.Kind() == reflect.Struct:
		if node.Kind != yaml.MappingNode {
			return []policy.Problem{problemAt(node, "%s must be a mapping", path)}
		}

		var list []policy.Problem
		for i := range t.NumField() {
			name := t.Field(i).Tag.Get("mapstructure")
			if value := child(node, name); name != "" && value != nil {
				list = append(list, mistyped(value, strings.TrimPrefix(path+"."+name, "."), t.Field(i).Type)...)
			}
		}
		return list

	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Interface:
		if node.Kind != yaml.SequenceNode {
			return []policy.Problem{problemAt(node, "%s must be a list", path)}
		}

		var list []policy.Problem
		for _, item := range node.Content {
			list = append(list, mistyped(item, path, t.Elem())...)
		}
		return list
	}
	return nil
}

func isScalar(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Kind() == reflect.Int || t.Kind() == reflect.Int64
}

// mistypedScalar says what is wrong with a scalar that stands for a value of
// type t, or nothing.
func mistypedScalar(node *yaml.Node, t reflect.Type) string {
	scalar := node.Kind == yaml.ScalarNode
	text := scalar && node.Tag == "!!str"
	number := scalar && node.Tag == "!!int"

	switch t {
	case reflect.TypeFor[time.Duration]():
		if d, err := time.ParseDuration(node.Value); !text || err != nil || d < 0 {
			return "is no duration: write a number with its unit, e.g. 30s, 1h"
		}
		return ""
	case reflect.TypeFor[Size]():
		var s Size
		if !text && !number || s.UnmarshalText([]byte(node.Value)) != nil {
			return "is no size: write a number of bytes, or one with KiB, MiB or GiB"
		}
		return ""
	}

	switch {
	case t.Kind() == reflect.String && !text:
		return fmt.Sprintf("is no text: put it in quotes if %.20q is meant", node.Value)
	case t.Kind() != reflect.String && (!number || !decimal.MatchString(node.Value)):
		return "is no number: write it in decimal digits"
	}
	return ""
}

var decimal = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,15})$`)
