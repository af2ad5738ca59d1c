package config

import (
	"fmt"
	"maps"
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

// keyCheck finds what viper would bend or drop without a word.
type keyCheck struct {
	problems []policy.Problem
	bad      map[*yaml.Node]bool // names and values that cannot be decoded
	missing  []string            // keys that were meant by unknown ones
}

func (k *keyCheck) add(node *yaml.Node, p policy.Problem) {
	k.problems = append(k.problems, p)
	k.bad[node] = true
}

// unknown finds keys that are mistyped, of another case, or written twice.
func (k *keyCheck) unknown(v strictyaml.Value, known keySet) {
	if known == nil {
		return
	}
	if v.Node.Kind == yaml.AliasNode {
		k.add(v.Node, v.At().Problem("aliases are not read here; write the value out"))
		return
	}

	for _, item := range v.Items() {
		item.Path = v.Path
		k.unknown(item, known)
	}

	for _, f := range v.Fields() {
		children, ok := known[f.Name]
		switch {
		case !ok:
			meant, says := suggest(f.Name, known)
			k.add(f.Key, f.NameAt().Problem("unknown key %q%s", f.Path, says))
			if meant != "" {
				k.missing = append(k.missing, strings.TrimSuffix(f.Path, f.Name)+meant)
			}
		case f.First > 0:
			k.add(f.Key, f.NameAt().Problem("key %q is written twice", f.Path))
		default:
			k.unknown(f.Value, children)
		}
	}
}

// suggest says what may have been meant by an unknown key.
func suggest(key string, known keySet) (meant, says string) {
	names := slices.Sorted(maps.Keys(known))
	for _, name := range names {
		if strings.EqualFold(name, key) {
			return name, fmt.Sprintf("; it is spelt %q", name)
		}
	}

	if meant, ok := strictyaml.Nearest(key, names); ok {
		return meant, fmt.Sprintf("; did you mean %q?", meant)
	}
	return "", "; known here: " + strings.Join(names, ", ")
}

// mistyped finds values of another type than their setting's. viper would bend
// them: 3600 into 3.6 microseconds, true into 1, 0100 into 64.
func (k *keyCheck) mistyped(v strictyaml.Value, t reflect.Type) {
	switch {
	case t == reflect.TypeFor[Ways]() && v.Is(yaml.SequenceNode, "") != nil:
		if v.Is(yaml.ScalarNode, "!!str") != nil {
			k.add(v.Node, v.At().Problem("%s must be none, anonymous, or a list of basic, mtls and oidc", v.Path))
		}
	case isScalar(t):
		if says := mistypedScalar(v, t); says != "" {
			k.add(v.Node, v.At().Problem("%s %s", v.Path, says))
		}
	case t.Kind() == reflect.Struct:
		k.mistypedMapping(v, t)
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Interface:
		k.mistypedList(v, t)
	}
}

func (k *keyCheck) mistypedMapping(v strictyaml.Value, t reflect.Type) {
	types := map[string]reflect.Type{}
	var names []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("mapstructure"); name != "" {
			types[name] = t.Field(i).Type
			names = append(names, name)
		}
	}

	if v.Is(yaml.MappingNode, "") != nil {
		const must = "%s must be a mapping: write {%s: …}; known there: %s"
		k.add(v.Node, v.At().Problem(must, v.Path, names[0], strings.Join(names, ", ")))
		return
	}
	for _, f := range v.Fields() {
		if of, known := types[f.Name]; known {
			k.mistyped(f.Value, of)
		}
	}
}

func (k *keyCheck) mistypedList(v strictyaml.Value, t reflect.Type) {
	if v.Is(yaml.SequenceNode, "") != nil {
		const must = "%s must be a list: each item in a line of its own after a dash, or all in brackets"
		k.add(v.Node, v.At().Problem(must, v.Path))
		return
	}

	for _, item := range v.Items() {
		item.Path = v.Path
		if item.Is(yaml.MappingNode, "") != nil {
			item.Path = "an item of " + v.Path
		}
		k.mistyped(item, t.Elem())
	}
}

func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Int, reflect.Int64, reflect.Bool:
		return true
	}
	return false
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
	case strings.HasSuffix(v.Path, "listen") && !text:
		return fmt.Sprintf("is %.20q; %s", written, writeAddress)
	case t.Kind() == reflect.Bool:
		if v.Is(yaml.ScalarNode, "!!bool") != nil {
			return "is neither true nor false"
		}
	case t.Kind() == reflect.String && !text:
		return fmt.Sprintf("is no text: put it in quotes if %.20q is meant", written)
	case t.Kind() != reflect.String && (!number || !decimal.MatchString(written)):
		return "is no number: write it in decimal digits"
	}
	return ""
}

var decimal = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,15})$`)
