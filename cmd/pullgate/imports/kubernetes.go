package imports

import (
	"strings"

	"go.yaml.in/yaml/v3"
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
