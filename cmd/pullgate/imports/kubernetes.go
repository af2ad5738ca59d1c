package imports

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy/foreign"
)

// kubernetes is one object of a cluster.
type kubernetes struct {
	value
	version, kind, name string
}

// objects reads the Kubernetes objects of files; a List is taken apart.
func (r *report) objects(files []File) []kubernetes {
	var all []kubernetes
	for _, f := range files {
		for _, document := range r.documents(f) {
			all = append(all, document.objects()...)
		}
	}
	return all
}

// objects are those of one document.
func (v value) objects() []kubernetes {
	if !v.is(yaml.MappingNode, "a mapping") {
		return nil
	}

	o := kubernetes{value: v}
	var items []value
	for _, field := range v.Fields() {
		f := value{field.Value, v.r}
		switch field.Name {
		case "apiVersion":
			o.version = f.text()
		case "kind":
			o.kind = f.text()
		case "items":
			items = f.list()
		case "metadata":
			if name := f.peek("name"); name != "" {
				o.name = name
			}
		}
	}
	if items == nil || !strings.HasSuffix(o.kind, "List") {
		return []kubernetes{o}
	}

	var all []kubernetes
	for _, item := range items {
		all = append(all, item.objects()...)
	}
	return all
}

// read reads a whole Kubernetes object; spec reads its spec.
func (o kubernetes) read(spec func(value)) {
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

// isForeign reports whether v is a document that the format does not read, and
// the problem, which says what it is.
func (v value) isForeign(format string) bool {
	document, ok := foreign.Recognize(v.Node)
	switch {
	case document.Format == format:
		return false
	case document.Format != "":
		v.refuse("is %s: import it as %s, or take it out of the file", document.What, document.Format)
	case document.Advice != "":
		v.refuse("is %s, which is not imported: %s", document.What, document.Advice)
	case ok:
		v.refuse("is %s, no policy about images: take it out of the file", document.What)
	default:
		v.refuse("has no kind: nothing says what this document is")
	}
	return true
}

// isElsewhere is isForeign of a document that is surely another program's; what
// cannot be told is left to the reader of the format.
func (v value) isElsewhere(format string) bool {
	document, _ := foreign.Recognize(v.Node)
	return document.Format+document.Advice != "" && v.isForeign(format)
}
