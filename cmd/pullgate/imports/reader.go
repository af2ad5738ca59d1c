package imports

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/policy/strictyaml"
)

// report gathers what is found on the way.
type report struct {
	losses     []policy.Problem
	problems   []policy.Problem
	roots      []trustRoot
	notes      *[]string // where the losses of the rule being read go as well
	compare    comparing
	documented map[string]bool // names of the TrustRoots whose documents are among the files

	// visit, when set, is told which fields are known where: a test holds that
	// each has a case.
	visit func(path string, known fields)
}

// value is one value of a source. A nil report is for values that say nothing.
type value struct {
	strictyaml.Value
	r *report
}

// lose lists a field that is not carried.
func (v value) lose(format string, args ...any) {
	text := v.message(format, args...)
	v.r.losses = append(v.r.losses, v.NameAt().Problem("%s", text))
	if v.r.notes != nil && !slices.Contains(*v.r.notes, text) {
		*v.r.notes = append(*v.r.notes, text)
	}
}

// refuse reports a field that cannot be carried.
func (v value) refuse(format string, args ...any) {
	v.r.problems = append(v.r.problems, v.NameAt().Problem("%s", v.message(format, args...)))
}

func (v value) message(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if v.Path == "" {
		return text
	}
	return v.Path + ": " + text
}

// fields says what becomes of each field of a mapping. It is the table of the
// fields a format has: one that is not in it is refused.
type fields map[string]func(value)

// lost is for a field that is listed and not carried.
func lost(why string) func(value) { return func(v value) { v.lose("%s", why) } }

// refused is for a field that cannot be carried.
func refused(advice string) func(value) { return func(v value) { v.refuse("%s", advice) } }

// refusedIfNot is for a choice of which one alone can be carried.
func refusedIfNot(choice, why string) func(value) {
	return func(v value) {
		if v.text() != choice {
			v.refuse("%s: only %s can be carried", why, choice)
		}
	}
}

// carried is for a field that is read elsewhere, or says nothing that could be
// lost.
func carried(value) {}

// object reads a mapping, field by field in the order written. An empty value
// (null) is a field that is not there.
func (v value) object(known fields) {
	if !v.is(yaml.MappingNode, "a mapping") {
		return
	}
	if v.r.visit != nil {
		v.r.visit(v.Path, known)
	}

	for _, field := range v.Fields() {
		f := value{field.Value, v.r}
		read, ok := known[field.Name]
		switch {
		case field.First > 0:
			f.refuse("is there twice, first at line %d: remove one", field.First)
		case !ok:
			f.refuse("unknown field, which would be dropped: remove it if it is a mistake")
		case !f.IsNull():
			read(f)
		}
	}
}

// each visits a mapping whose names are the writer's own, each of which says
// something.
func (v value) each(visit func(name string, f value)) {
	known := fields{}
	for _, field := range v.Fields() {
		known[field.Name] = func(f value) { visit(field.Name, f) }
		if field.IsNull() {
			value{field.Value, v.r}.refuse("is empty: write what it is, or remove it")
		}
	}
	v.object(known)
}

// items reads a list and reads each of its values.
func (v value) items(read func(value)) {
	for _, item := range v.list() {
		read(item)
	}
}

func (v value) list() []value {
	if !v.is(yaml.SequenceNode, "a list") {
		return nil
	}

	var all []value
	for _, item := range v.Items() {
		all = append(all, value{item, v.r})
	}
	return all
}

func (v value) text() string {
	if !v.is(yaml.ScalarNode, "text") {
		return ""
	}
	return v.Node.Value
}

func (v value) texts() []string {
	var all []string
	for _, e := range v.list() {
		all = append(all, e.text())
	}
	return all
}

// table reads a mapping of texts.
func (v value) table() map[string]string {
	all := map[string]string{}
	v.each(func(name string, f value) { all[name] = f.text() })
	return all
}

func (v value) flag() bool {
	if !v.is(yaml.ScalarNode, "true or false") {
		return false
	}

	on, err := strconv.ParseBool(v.Node.Value)
	if err != nil {
		v.refuse("must be true or false, not %.40q", v.Node.Value)
	}
	return on
}

func (v value) number() int {
	if !v.is(yaml.ScalarNode, "a number") {
		return 0
	}

	n, err := strconv.Atoi(v.Node.Value)
	if err != nil || n < 0 {
		v.refuse("must be a whole number, not %.40q", v.Node.Value)
		return 0
	}
	return n
}

// peek is what a field holds, before it is read with the others; empty where
// there is none.
func (v value) peek(name string) string {
	text := ""
	for _, f := range v.Fields() {
		if f.Name == name {
			text = f.Node.Value
		}
	}
	return text
}

// words are a field's name and all texts in it.
func (v value) words() string {
	var b strings.Builder
	b.WriteString(v.Path[strings.LastIndex(v.Path, ".")+1:])

	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		fmt.Fprintf(&b, " %q", strings.TrimSpace(n.Value))
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(v.Node)
	return b.String() + "\n"
}

// is reports whether v is of the kind, which want names, and the problem when
// it is not. Tags are not looked at: what a cluster writes has few quotes.
func (v value) is(kind yaml.Kind, want string) bool {
	err := v.Is(kind, "")
	switch {
	case errors.Is(err, strictyaml.ErrAlias):
		v.refuse("is a YAML alias: write it out")
	case err != nil:
		v.refuse("must be %s", want)
	}
	return err == nil
}

// documents reads every YAML document of a file; JSON is YAML as well.
func (r *report) documents(f File) []value {
	fail := func(format string, args ...any) {
		r.problems = append(r.problems, policy.Position{File: f.Name}.Problem(format, args...))
	}
	if len(f.Text) > MaxFile {
		fail("is larger than %d KiB", MaxFile>>10)
		return nil
	}

	var all []value
	for document, err := range strictyaml.Documents(f.Text) {
		if err != nil {
			fail("is no valid YAML: %v", err)
			return nil
		}
		if len(document.Content) != 1 {
			continue
		}
		root := strictyaml.Value{Node: document.Content[0], File: f.Name, Line: document.Content[0].Line}
		if !root.IsNull() {
			all = append(all, value{root, r})
		}
	}
	return all
}
