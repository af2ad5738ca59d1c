package imports

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// report gathers what is found on the way.
type report struct {
	losses   []policy.Problem
	problems []policy.Problem
	roots    []trustRoot
	notes    *[]string // where the losses of the rule being read go as well

	// visit, when set, is told which fields are known where: a test holds that
	// each has a case.
	visit func(path string, known fields)
}

// value is one node of a source, and where it stands.
type value struct {
	r    *report
	file string
	path string // "spec.authorities[0].key"
	node *yaml.Node
	line int // of the field's name
}

// at is where the field's name stands.
func (v value) at() policy.Position { return policy.Position{File: v.file, Line: v.line} }

// lose lists a field that is not carried.
func (v value) lose(format string, args ...any) {
	text := v.message(format, args...)
	v.r.losses = append(v.r.losses, v.at().Problem("%s", text))
	if v.r.notes != nil && !slices.Contains(*v.r.notes, text) {
		*v.r.notes = append(*v.r.notes, text)
	}
}

// refuse reports a field that cannot be carried.
func (v value) refuse(format string, args ...any) {
	v.r.problems = append(v.r.problems, v.at().Problem("%s", v.message(format, args...)))
}

func (v value) message(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if v.path == "" {
		return text
	}
	return v.path + ": " + text
}

// fields says what becomes of each field of a mapping. It is the table of the
// fields a format has: one that is not in it is refused.
type fields map[string]func(value)

// lost is for a field that is listed and not carried.
func lost(why string) func(value) { return func(v value) { v.lose("%s", why) } }

// refused is for a field that cannot be carried.
func refused(advice string) func(value) { return func(v value) { v.refuse("%s", advice) } }

// object reads a mapping, field by field in the order written. An empty value
// (null) is a field that is not there.
func (v value) object(known fields) {
	if !v.is(yaml.MappingNode, "a mapping") {
		return
	}
	if v.r.visit != nil {
		v.r.visit(v.path, known)
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key := v.node.Content[i]
		f := value{v.r, v.file, strings.TrimPrefix(v.path+"."+key.Value, "."), v.node.Content[i+1], key.Line}
		if first, twice := seen[key.Value]; twice {
			f.refuse("is there twice, first at line %d: remove one", first)
			continue
		}
		seen[key.Value] = key.Line
		read, ok := known[key.Value]
		if !ok {
			f.refuse("is no field that import knows here, and would be dropped: remove it if it is a mistake")
			continue
		}
		if f.node.ShortTag() != "!!null" {
			read(f)
		}
	}
}

// each visits a mapping whose names are the writer's own, each of which says
// something.
func (v value) each(visit func(name string, f value)) {
	known := fields{}
	if v.node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			key := v.node.Content[i]
			known[key.Value] = func(f value) { visit(key.Value, f) }
			if v.node.Content[i+1].ShortTag() == "!!null" {
				value{
					v.r,
					v.file,
					strings.TrimPrefix(v.path+"."+key.Value, "."),
					v.node.Content[i+1],
					key.Line,
				}.refuse("is empty: write what it is, or remove it")
			}
		}
	}
	v.object(known)
}

func (v value) list() []value {
	if !v.is(yaml.SequenceNode, "a list") {
		return nil
	}
	var all []value
	for i, n := range v.node.Content {
		all = append(all, value{v.r, v.file, fmt.Sprintf("%s[%d]", v.path, i), n, n.Line})
	}
	return all
}

func (v value) text() string {
	if !v.is(yaml.ScalarNode, "text") {
		return ""
	}
	return v.node.Value
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
	on, err := strconv.ParseBool(v.node.Value)
	if err != nil {
		v.refuse("must be true or false, not %.40q", v.node.Value)
	}
	return on
}

func (v value) number() int {
	if !v.is(yaml.ScalarNode, "a number") {
		return 0
	}
	n, err := strconv.Atoi(v.node.Value)
	if err != nil || n < 0 {
		v.refuse("must be a whole number, not %.40q", v.node.Value)
		return 0
	}
	return n
}

func (v value) is(kind yaml.Kind, want string) bool {
	switch {
	case v.node.Kind == yaml.AliasNode:
		v.refuse("is a YAML alias: write it out")
	case v.node.Kind != kind:
		v.refuse("must be %s", want)
	default:
		return true
	}
	return false
}

// documents reads every YAML document of a file; JSON is YAML as well.
func (r *report) documents(f File) []value {
	fail := func(line int, format string, args ...any) []value {
		r.problems = append(r.problems, policy.Position{File: f.Name, Line: line}.Problem(format, args...))
		return nil
	}
	if len(f.Text) > MaxFile {
		return fail(0, "is larger than %d KiB", MaxFile>>10)
	}
	var all []value
	decoder := yaml.NewDecoder(bytes.NewReader(f.Text))
	for {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			return fail(0, "is no valid YAML: %v", err)
		}
		if len(doc.Content) == 1 && doc.Content[0].ShortTag() != "!!null" {
			all = append(all, value{r, f.Name, "", doc.Content[0], doc.Content[0].Line})
		}
	}
}

// kubernetes is one object of a cluster.
type kubernetes struct {
	value
	version, kind, name string
}

// objects reads the Kubernetes objects of files; a List is taken apart.
func (r *report) objects(files []File) []kubernetes {
	var all []kubernetes
	var open func(v value)
	open = func(v value) {
		o := kubernetes{value: v}
		var items []value
		if !v.is(yaml.MappingNode, "a mapping") {
			return
		}
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			name, n := v.node.Content[i].Value, v.node.Content[i+1]
			f := value{r, v.file, strings.TrimPrefix(v.path+"."+name, "."), n, v.node.Content[i].Line}
			switch name {
			case "apiVersion":
				o.version = f.text()
			case "kind":
				o.kind = f.text()
			case "items":
				items = f.list()
			case "metadata":
				if n.Kind == yaml.MappingNode {
					for j := 0; j+1 < len(n.Content); j += 2 {
						if n.Content[j].Value == "name" {
							o.name = n.Content[j+1].Value
						}
					}
				}
			}
		}
		if items != nil && strings.HasSuffix(o.kind, "List") {
			for _, item := range items {
				open(item)
			}
			return
		}
		all = append(all, o)
	}
	for _, f := range files {
		for _, doc := range r.documents(f) {
			open(doc)
		}
	}
	return all
}

// object reads a whole Kubernetes object, whose spec is read by spec.
func (o kubernetes) read(spec func(value)) {
	carried := func(value) {}
	o.object(fields{
		"apiVersion": carried,
		"kind":       carried,
		"metadata": func(v value) {
			v.object(fields{
				"name": carried,
				"namespace": refused(
					"pullgate knows no namespaces: it would apply to every pull; take it out of the file if it should",
				),
				"labels":            lost("labels are the cluster's"),
				"annotations":       lost("annotations are the cluster's"),
				"uid":               carried, // what the cluster wrote, not the author
				"resourceVersion":   carried,
				"generation":        carried,
				"creationTimestamp": carried,
				"managedFields":     carried,
				"finalizers":        lost("finalizers are the cluster's"),
				"ownerReferences":   lost("owners are the cluster's"),
				"generateName":      refused("write a name instead"),
			})
		},
		"spec":   spec,
		"status": carried,
	})
	if o.name == "" {
		o.refuse("has no metadata.name: add one, it names the policy")
	}
}
