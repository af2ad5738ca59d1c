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

// render writes a policy file, which was imported from files of the format.
func render(format string, files []File, policies []native, roots []trustRoot) ([]byte, error) {
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
	p.putPlaces(m)

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
	if p.ownChildren && p.static == policy.Verify {
		m.putText("children", "own")
	}
	m.HeadComment = comment(p.notes)
	return &m.Node
}

// putPlaces writes the images and digests, each once.
func (p native) putPlaces(m *mapping) {
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
		c.putText(subjectField(a.pki.email), a.pki.subject)
		m.put("certificate", &c.Node)
	default:
		m.put("keyless", a.keyless())
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

func (a authority) keyless() *yaml.Node {
	m := newMapping()
	if len(a.roots) > 0 {
		m.put("trustRoots", texts(text, a.roots))
	}

	list := sequence()
	for _, id := range a.identities {
		list.Content = append(list.Content, id.node())
	}
	m.put("identities", list)
	return &m.Node
}

func (id identity) node() *yaml.Node {
	m := newMapping()
	m.putText("issuer", id.issuer)
	m.putText("issuerRegExp", id.issuerRegExp)
	m.putText(subjectField(id.email), id.subject)
	m.putText("subjectRegExp", id.subjectRegExp)
	m.putTable("claims", id.claims)
	return &m.Node
}

// subjectField is the field for a subject that is a text.
func subjectField(email bool) string {
	if email {
		return "subjectEmail"
	}
	return "subject"
}
