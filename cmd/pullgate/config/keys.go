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
	"github.com/pullgate/pullgate/policy/strictyaml"
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
func unknownKeys(v strictyaml.Value, known keySet) []policy.Problem {
	if known == nil {
		return nil
	}
	if v.Node.Kind == yaml.AliasNode {
		return []policy.Problem{v.At().Problem("aliases are not read here; write the value out")}
	}

	var list []policy.Problem
	for _, item := range v.Items() {
		item.Path = v.Path
		list = append(list, unknownKeys(item, known)...)
	}

	for _, f := range v.Fields() {
		children, ok := known[f.Name]
		switch {
		case !ok:
			list = append(list, f.NameAt().Problem("unknown key %q%s", f.Path, suggest(f.Name, known)))
		case f.First > 0:
			list = append(list, f.NameAt().Problem("key %q is written twice", f.Path))
		default:
			list = append(list, unknownKeys(f.Value, children)...)
		}
	}
	return list
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
func mistyped(v strictyaml.Value, t reflect.Type) []policy.Problem {
	switch {
	case isScalar(t):
		if says := mistypedScalar(v, t); says != "" {
			return []policy.Problem{v.At().Problem("%s %s", v.Path, says)}
		}
		return nil
	case t.Kind() == reflect.Struct:
		return mistypedMapping(v, t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Interface:
		return mistypedList(v, t)
	}
	return nil
}

func mistypedMapping(v strictyaml.Value, t reflect.Type) []policy.Problem {
	if v.Is(yaml.MappingNode, "") != nil {
		return []policy.Problem{v.At().Problem("%s must be a mapping", v.Path)}
	}

	types := map[string]reflect.Type{}
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("mapstructure"); name != "" {
			types[name] = t.Field(i).Type
		}
	}

	var list []policy.Problem
	for _, f := range v.Fields() {
		if of, known := types[f.Name]; known {
			list = append(list, mistyped(f.Value, of)...)
		}
	}
	return list
}

func mistypedList(v strictyaml.Value, t reflect.Type) []policy.Problem {
	if v.Is(yaml.SequenceNode, "") != nil {
		return []policy.Problem{v.At().Problem("%s must be a list", v.Path)}
	}

	var list []policy.Problem
	for _, item := range v.Items() {
		item.Path = v.Path
		list = append(list, mistyped(item, t.Elem())...)
	}
	return list
}

func isScalar(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Kind() == reflect.Int || t.Kind() == reflect.Int64
}

// mistypedScalar says what is wrong with a scalar that stands for a value of
// type t, or nothing.
func mistypedScalar(v strictyaml.Value, t reflect.Type) string {
	written := v.Node.Value
	text := v.Is(yaml.ScalarNode, "!!str") == nil
	number := v.Is(yaml.ScalarNode, "!!int") == nil

	switch t {
	case reflect.TypeFor[time.Duration]():
		if d, err := time.ParseDuration(written); !text || err != nil || d < 0 {
			return "is no duration: write a number with its unit, e.g. 30s, 1h"
		}
		return ""
	case reflect.TypeFor[Size]():
		var s Size
		if !text && !number || s.UnmarshalText([]byte(written)) != nil {
			return "is no size: write a number of bytes, or one with KiB, MiB or GiB"
		}
		return ""
	}

	switch {
	case t.Kind() == reflect.String && !text:
		return fmt.Sprintf("is no text: put it in quotes if %.20q is meant", written)
	case t.Kind() != reflect.String && (!number || !decimal.MatchString(written)):
		return "is no number: write it in decimal digits"
	}
	return ""
}

var decimal = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,15})$`)
