package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// readable copies a configuration without what keyCheck has found to be wrong, and
// without what is not decoded but read from its nodes.
type readable struct {
	bad    map[*yaml.Node]bool
	unread []string // the paths of what was left out because it is wrong
}

func (r *readable) copyOf(node *yaml.Node, path string) *yaml.Node {
	switch node.Kind {
	case yaml.MappingNode:
		return r.mapping(node, path)
	case yaml.SequenceNode:
		return r.list(node, path)
	}
	return node
}

func (r *readable) mapping(node *yaml.Node, path string) *yaml.Node {
	made := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")

		switch {
		case at == "policies" || at == "trustRoots":
		case r.bad[key] || r.bad[value]:
			r.unread = append(r.unread, at)
		default:
			made.Content = append(made.Content, key, r.copyOf(value, at))
		}
	}
	return made
}

// list keeps the place of each upstream, so that problems find it by its number.
func (r *readable) list(node *yaml.Node, path string) *yaml.Node {
	made := &yaml.Node{Kind: yaml.SequenceNode}
	for i, item := range node.Content {
		at := path + "." + strconv.Itoa(i)
		if !r.bad[item] {
			made.Content = append(made.Content, r.copyOf(item, at))
			continue
		}

		r.unread = append(r.unread, at)
		if path == "upstreams" {
			made.Content = append(made.Content, &yaml.Node{Kind: yaml.MappingNode})
		}
	}
	return made
}

// text is the readable part of the configuration at root.
func (r *readable) text(file string, root *yaml.Node) ([]byte, *policy.Problem) {
	text, err := yaml.Marshal(r.copyOf(root, ""))
	if err != nil {
		return nil, problemIn(file, 0, "%v", err)
	}
	return text, nil
}
