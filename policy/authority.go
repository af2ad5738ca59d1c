package policy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

var authorityFields = []string{"name", "key", "keys", "keyless", "github", "certificate", "accept",
	"required", "transparencyLog", "timestamp", "trustRoot", "trustRoots"}

// authorities reads the list into p and finds names and keys used twice.
func (l *loader) authorities(s source, p *Policy, what string, n *yaml.Node) {
	nodes, ok := s.texts(n, what+": authorities")
	if !ok {
		return
	}
	names := map[string]int{} // -> line
	keys := map[string]int{}
	for i, node := range nodes {
		a, ok := l.authority(s, fmt.Sprintf("%s: authority %d", what, i+1), node, keys)
		if !ok {
			continue
		}
		if line, twice := names[a.Name]; twice && a.Name != "" {
			s.problem(node, "%s: authority name %q is already used at line %d", what, a.Name, line)
		}
		names[a.Name] = node.Line
		p.Authorities = append(p.Authorities, a)
	}
}

// authority reads one entry; keys are the policy's so far, by ID.
func (l *loader) authority(s source, what string, n *yaml.Node, keys map[string]int) (Authority, bool) {
	fields, ok := s.mapping(n, what)
	if !ok {
		return Authority{}, false
	}
	s.known(fields, what, authorityFields)
	var a Authority
	var values []*yaml.Node
	var kinds []string
	for _, f := range fields {
		label := what + ": " + f.name
		switch f.name {
		case "name":
			a.Name = s.name(f.value, label)
		case "key":
			kinds = append(kinds, f.name)
			values = append(values, f.value)
		case "keys":
			kinds = append(kinds, f.name)
			list, _ := s.texts(f.value, label)
			values = append(values, list...)
		case "keyless", "github", "certificate":
			kinds = append(kinds, f.name)
			s.problem(f.key, "%s is not supported yet: use key or keys", label)
		case "trustRoot", "trustRoots":
			s.problem(f.key, "%s is not supported yet", label)
		case "required":
			s.unlessPlain(f, label, "!!bool", "false")
		case "transparencyLog", "timestamp":
			if word, _ := s.choice(f.value, label, "ignore", "require"); word == "require" {
				s.problem(f.value, "%s: require is not supported yet", label)
			}
		case "accept":
			s.accept(f, label)
		}
	}
	if len(kinds) != 1 {
		s.problem(n, "%s must have exactly one of key, keys, keyless, github, certificate, not %s", what, orNone(kinds))
	}
	for _, value := range values {
		key, ok := l.key(s, value, what)
		if !ok {
			continue
		}
		if line, twice := keys[key.ID]; twice {
			s.problem(value, "%s: the same key is already in this policy at line %d", what, line)
			continue
		}
		keys[key.ID] = value.Line
		a.Keys = append(a.Keys, key)
	}
	if a.Name == "" && len(a.Keys) > 0 {
		a.Name = a.Keys[0].Source
		if a.Name == inlineKey {
			a.Name = "key " + a.Keys[0].ID[:12]
		}
	}
	return a, true
}

// unlessPlain accepts only the value that changes nothing.
func (s source) unlessPlain(f field, label, tag, plain string) {
	if s.kind(f.value, yaml.ScalarNode, tag, label, "true or false") && !strings.EqualFold(f.value.Value, plain) {
		s.problem(f.value, "%s is not supported yet", label)
	}
}

func (s source) accept(f field, label string) {
	nodes, _ := s.texts(f.value, label)
	for _, n := range nodes {
		if kind, ok := s.text(n, label); ok && kind != "signature" {
			s.problem(n, "%s: %s is not supported yet, only signature", label, brief(n))
		}
	}
}

// inlineKey is the Source of a key written into the policy.
const inlineKey = "inline"

// key reads a key value: PEM text, or a file.
func (l *loader) key(s source, n *yaml.Node, what string) (Key, bool) {
	value, ok := s.text(n, what+": key")
	if !ok {
		return Key{}, false
	}
	if strings.Contains(value, pemBegin) {
		key, err := parseKey([]byte(value))
		if err != nil {
			s.problem(n, "%s: the key %v", what, err)
			return Key{}, false
		}
		key.Source = inlineKey
		return key, true
	}
	switch service := keyService(value); service {
	case "":
	case "awskms", "gcpkms", "azurekms", "hashivault", "k8s", "pkcs11":
		s.problem(n, "%s: %s keys are not supported yet: export the public key to a file", what, service)
		return Key{}, false
	default:
		s.problem(n, "%s: %s is no key: write a file name or PEM text", what, brief(n))
		return Key{}, false
	}
	if value == "" || len(value) > 4096 || !printable(value) {
		s.problem(n, "%s: %s is no key: write a file name or PEM text", what, brief(n))
		return Key{}, false
	}
	text, err := l.read(s.absolute(value), maxKeyFile)
	if err != nil {
		s.problem(n, "%s: %v", what, err)
		return Key{}, false
	}
	key, err := parseKey(text)
	if err != nil {
		s.problem(n, "%s: key %s %v", what, value, err)
		return Key{}, false
	}
	key.Source = value
	return key, true
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " and ")
}
