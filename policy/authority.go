package policy

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

var authorityFields = []string{
	"name", "key", "keys", "keyless", "github", "certificate", "accept",
	"required", "transparencyLog", "timestamp", "trustRoot",
}

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
		if a.Name == "" {
			a.Name = a.defaultName(names)
		}
		if line, twice := names[a.Name]; twice && a.Name != "" {
			s.problem(node, "%s: authority name %q is already used at line %d", what, a.Name, line)
		}
		names[a.Name] = node.Line
		p.Authorities = append(p.Authorities, a)
	}
}

// defaultName names an authority after whom it trusts; names are taken.
func (a *Authority) defaultName(taken map[string]int) string {
	name := ""
	switch {
	case len(a.Keys) > 0 && a.Keys[0].Source == inlineKey:
		return "key " + a.Keys[0].ID[:12]
	case len(a.Keys) > 0:
		return a.Keys[0].Source
	case len(a.KMS) > 0:
		return a.KMS[0]
	case len(a.Identities) > 0:
		name = a.Identities[0].String()
	case a.PKI != nil:
		name = a.PKI.Subject.String()
	}
	if len(name) > maxName-8 {
		name = strings.ToValidUTF8(name[:maxName-8], "") + "…"
	}
	unique := name
	for i := 2; taken[unique] > 0; i++ {
		unique = fmt.Sprintf("%s %d", name, i)
	}
	return unique
}

// authority reads one entry; keys are the policy's so far, by ID.
func (l *loader) authority(s source, what string, n *yaml.Node, keys map[string]int) (Authority, bool) {
	fields, ok := s.mapping(n, what)
	if !ok {
		return Authority{}, false
	}
	s.known(fields, what, authorityFields)
	a := Authority{Accept: []string{SignaturePredicate}}
	var values []*yaml.Node
	var kinds []string
	var trustRoot *yaml.Node
	var ignored field // evidence that shall not be asked for
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
		case "keyless":
			kinds = append(kinds, f.name)
			l.keyless(s, &a, f.value, label)
		case "github":
			kinds = append(kinds, f.name)
			l.github(s, &a, f.value, label)
		case "certificate":
			kinds = append(kinds, f.name)
			l.pki(s, &a, f.value, label)
		case "trustRoot":
			trustRoot = f.value
		case "required":
			a.Required = s.boolean(f.value, label)
		case "transparencyLog":
			word, _ := s.choice(f.value, label, "ignore", "require")
			a.TransparencyLog = word == "require"
			if word == "ignore" {
				ignored = f
			}
		case "timestamp":
			word, _ := s.choice(f.value, label, "ignore", "require")
			a.Timestamp = word == "require"
			if word == "ignore" {
				ignored = f
			}
		case "accept":
			if types := s.accept(f.value, label); len(types) > 0 {
				a.Accept = types
			}
		}
	}
	if len(kinds) != 1 {
		s.problem(n, "%s must have exactly one of key, keys, keyless, github, certificate, not %s", what, orNone(kinds))
		return a, true
	}
	if ignored.value != nil && len(a.Identities) > 0 {
		s.problem(
			ignored.value,
			"%s: %s: what a keyless signature must bring is the trust root's to say: remove it",
			what,
			ignored.name,
		)
	}
	for _, value := range values {
		if reference, ok := l.keyReference(s, value, what); ok {
			if line, twice := keys[reference]; twice {
				s.problem(value, "%s: the same key is already in this policy at line %d", what, line)
				continue
			}
			keys[reference] = value.Line
			a.KMS = append(a.KMS, reference)
			continue
		}
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
	l.evidence(s, &a, trustRoot, kinds[0], what)
	return a, true
}

// evidence settles which trust root's logs and timestamps an authority asks for.
func (l *loader) evidence(s source, a *Authority, trustRoot *yaml.Node, kind, what string) {
	stamped := a.PKI != nil && a.PKI.RequireTimestamp
	switch {
	case kind == "keyless" || kind == "github":
		if trustRoot != nil {
			s.problem(trustRoot, "%s: trustRoot is for keys and certificates: write trustRoots under %s", what, kind)
		}
	case trustRoot != nil:
		if a.PKI == nil && !a.TransparencyLog && !a.Timestamp {
			s.problem(
				trustRoot,
				"%s: trustRoot has no effect without transparencyLog: require or timestamp: require",
				what,
			)
		}
		if name, ok := s.text(trustRoot, what+": trustRoot"); ok {
			a.TrustRoots = []string{name}
			l.rootUses = append(l.rootUses, rootUse{s, trustRoot, name, what + ": trustRoot"})
		}
	case !a.TransparencyLog && !a.Timestamp && !stamped:
		return
	}
	if len(a.TrustRoots) == 0 {
		a.TrustRoots = []string{PublicGood}
	}
}

// keyReference reads a key that is kept in a key service.
func (l *loader) keyReference(s source, n *yaml.Node, what string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || strings.Contains(n.Value, pemBegin) {
		return "", false
	}
	switch keyService(n.Value) {
	case "awskms", "gcpkms", "azurekms", "hashivault":
	default:
		return "", false
	}
	if len(n.Value) > maxPattern || !printable(n.Value) || strings.ContainsAny(n.Value, " \t") ||
		strings.HasSuffix(n.Value, "://") {
		s.problem(n, "%s: %s is no key reference", what, brief(n))
	}
	return n.Value, true
}

func (s source) boolean(n *yaml.Node, label string) bool {
	return s.kind(n, yaml.ScalarNode, "!!bool", label, "true or false") && strings.EqualFold(n.Value, "true")
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
		key, err := ParseKey([]byte(value))
		if err != nil {
			s.problem(n, "%s: the key %v", what, err)
			return Key{}, false
		}
		key.Source = inlineKey
		return key, true
	}
	switch service := keyService(value); service {
	case "":
	case "k8s", "pkcs11":
		s.problem(n, "%s: %s keys are not read: export the public key to a file", what, service)
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
	key, err := ParseKey(text)
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
