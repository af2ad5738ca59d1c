package imports

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// authority is one signer, as pullgate's policies say it.
type authority struct {
	name       string
	keys       []string // PEM text, file names, references to key services
	identities []identity
	roots      []string // of identities; empty: the default
	pki        *pki
	log        bool // transparencyLog: require
	stamp      bool // timestamp: require
	root       string
	accept     string // predicate type that counts instead of a signature; "": a signature
	required   bool
}

type identity struct {
	issuer, issuerRegExp, subject, subjectRegExp string
	claims                                       map[string]string
}

type pki struct {
	roots, intermediates, subject string
}

// same identifies who an authority is, whatever its name.
func (a authority) same() string {
	a.name, a.accept, a.required = "", "", false
	var chain pki
	if a.pki != nil {
		chain, a.pki = *a.pki, nil
	}
	return fmt.Sprintf("%#v %#v", a, chain)
}

// attestation is one that must be there.
type attestation struct {
	kind, by string
}

// trustRoot is one that the policies name.
type trustRoot struct {
	name, file, note string
	of               string // what the source makes it of
}

// native is one policy of pullgate.
type native struct {
	name         string
	places       []place
	static       policy.Action
	warn         bool
	threshold    int // 0: not written
	authorities  []authority
	annotations  map[string]string
	attestations []attestation
	repository   string
	notes        []string
}

// trust asks for a trust root that has to be made, and returns its name. of is
// what the source makes it of: two that differ never share a root, in which one
// CA could make the identities that are asked of the other.
func (r *report) trust(name, of, note string) string {
	name = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
	if name == "" || name == policy.PublicGood || name == policy.GitHubRoot {
		name = "imported-" + name
	}
	unique := name
	for n := 2; ; n++ {
		i := slices.IndexFunc(r.roots, func(t trustRoot) bool { return t.name == unique })
		if i < 0 {
			r.roots = append(r.roots, trustRoot{unique, unique + ".trusted_root.json", note, of})
			return unique
		}
		if r.roots[i].of == of {
			return unique
		}
		unique = fmt.Sprintf("%s-%d", name, n)
	}
}

// words are a field's name and all texts in it.
func (v value) words() string {
	var b strings.Builder
	b.WriteString(v.path[strings.LastIndex(v.path, ".")+1:])
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		fmt.Fprintf(&b, " %q", strings.TrimSpace(n.Value))
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(v.node)
	return b.String() + "\n"
}

func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.Contains(s, "\n") {
		n.Style = yaml.LiteralStyle
	}
	return n
}

func quoted(s string) *yaml.Node {
	n := text(s)
	n.Style = yaml.DoubleQuotedStyle
	return n
}

func word(tag, s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: s} }

func sequence(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Content: items}
}

func texts(write func(string) *yaml.Node, list []string) *yaml.Node {
	n := sequence()
	for _, s := range list {
		n.Content = append(n.Content, write(s))
	}
	return n
}

// mapping is written in the order its fields are put.
type mapping struct{ yaml.Node }

func newMapping() *mapping { return &mapping{yaml.Node{Kind: yaml.MappingNode}} }

func (m *mapping) put(name string, value *yaml.Node) {
	m.Content = append(m.Content, text(name), value)
}

func (m *mapping) putText(name, value string) {
	if value != "" {
		m.put(name, text(value))
	}
}

func (m *mapping) putTable(name string, table map[string]string) {
	if len(table) == 0 {
		return
	}
	t := newMapping()
	for _, key := range sorted(table) {
		t.put(key, quoted(table[key]))
	}
	m.put(name, &t.Node)
}

func sorted(table map[string]string) []string {
	var keys []string
	for key := range table {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// defaultName is what pullgate calls its default action; no policy may be called so.
const defaultName = "defaultAction"

// name gives every policy a name of its own, short enough for pullgate.
func name(policies []native) {
	taken := map[string]bool{"": true, policy.CanaryName: true, defaultName: true}
	for i, p := range policies {
		name := strings.TrimSpace(p.name)
		if len(name) > 100 {
			name = strings.ToValidUTF8(name[:100], "")
		}
		unique := name
		for n := 2; taken[unique]; n++ {
			unique = strings.TrimSpace(fmt.Sprintf("%s %d", name, n))
		}
		taken[unique] = true
		policies[i].name = unique
	}
}

// print writes a policy file.
func print(format string, files []File, policies []native, roots []trustRoot) ([]byte, error) {
	document := newMapping()
	if len(roots) > 0 {
		list := sequence()
		for _, root := range roots {
			m := newMapping()
			m.putText("name", root.name)
			m.putText("file", root.file)
			m.HeadComment = comment([]string{root.note})
			list.Content = append(list.Content, &m.Node)
		}
		document.put("trustRoots", list)
	}
	list := sequence()
	for _, p := range policies {
		list.Content = append(list.Content, p.node())
	}
	document.put("policies", list)
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	document.HeadComment = comment([]string{
		fmt.Sprintf("pullgate import %s %s", format, strings.Join(names, " ")),
		"What was not carried stands as a comment where it was. The first policy that matches decides.",
	})
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document.Node); err != nil {
		return nil, err
	}
	return out.Bytes(), encoder.Close()
}

// comment writes lines of a comment; what stands in a source cannot end one, nor
// bring in what YAML or a terminal would not take.
func comment(lines []string) string {
	var all []string
	for _, line := range lines {
		line = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
				return unicode.ReplacementChar
			}
			return r
		}, line)
		all = append(all, "# "+strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(all, "\n")
}

func (p native) node() *yaml.Node {
	m := newMapping()
	m.putText("name", p.name)
	var images, digests []string
	for _, at := range p.places {
		if !slices.Contains(images, at.glob.String()) {
			images = append(images, at.glob.String())
		}
		if at.digest != "" && !slices.Contains(digests, at.digest) {
			digests = append(digests, at.digest)
		}
	}
	m.put("images", texts(quoted, images))
	if len(digests) > 0 {
		m.put("digests", texts(text, digests))
	}
	switch p.static {
	case policy.Allow:
		m.putText("static", "allow")
	case policy.Deny:
		m.putText("static", "deny")
	}
	if p.warn && p.static == policy.Verify {
		m.putText("mode", "warn")
	}
	if p.threshold > 1 {
		m.put("threshold", word("!!int", fmt.Sprint(p.threshold)))
	}
	if len(p.authorities) > 0 {
		list := sequence()
		for _, a := range p.authorities {
			list.Content = append(list.Content, a.node())
		}
		m.put("authorities", list)
	}
	m.putTable("annotations", p.annotations)
	if len(p.attestations) > 0 {
		list := sequence()
		for _, a := range p.attestations {
			n := newMapping()
			n.putText("type", a.kind)
			n.put("authorities", sequence(text(a.by)))
			list.Content = append(list.Content, &n.Node)
		}
		m.put("attestations", list)
	}
	m.putText("signatureRepository", p.repository)
	m.HeadComment = comment(p.notes)
	return &m.Node
}

func (a authority) node() *yaml.Node {
	m := newMapping()
	m.putText("name", a.name)
	switch {
	case len(a.keys) == 1:
		m.putText("key", a.keys[0])
	case len(a.keys) > 1:
		m.put("keys", texts(text, a.keys))
	case a.pki != nil:
		c := newMapping()
		c.putText("rootsFile", a.pki.roots)
		c.putText("intermediatesFile", a.pki.intermediates)
		c.putText("subject", a.pki.subject)
		m.put("certificate", &c.Node)
	default:
		k := newMapping()
		if len(a.roots) > 0 {
			k.put("trustRoots", texts(text, a.roots))
		}
		list := sequence()
		for _, id := range a.identities {
			list.Content = append(list.Content, id.node())
		}
		k.put("identities", list)
		m.put("keyless", &k.Node)
	}
	if a.accept != "" {
		m.put("accept", sequence(text(a.accept)))
	}
	if a.required {
		m.put("required", word("!!bool", "true"))
	}
	if a.log {
		m.putText("transparencyLog", "require")
	}
	if a.stamp {
		m.putText("timestamp", "require")
	}
	m.putText("trustRoot", a.root)
	return &m.Node
}

func (id identity) node() *yaml.Node {
	m := newMapping()
	m.putText("issuer", id.issuer)
	m.putText("issuerRegExp", id.issuerRegExp)
	m.putText("subject", id.subject)
	m.putText("subjectRegExp", id.subjectRegExp)
	m.putTable("claims", id.claims)
	return &m.Node
}
