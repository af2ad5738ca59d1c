package policy

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxName bounds the names of policies and authorities, in bytes: they appear
// in headers and log lines.
const maxName = 128

var policyFields = []string{
	"name", "images", "digests", "static", "expires", "mode", "threshold",
	"authorities", "annotations", "attestations", "signatureRepository", "children",
}

var digestForm = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)

// policy reads one entry of the list. It returns nil only when the entry is no
// mapping; otherwise what could be read, so that the checks between policies
// can go on; match says that this includes all it matches.
func (l *loader) policy(s source, n *yaml.Node) (p *Policy, match bool) {
	fields, ok := s.mapping(n, "a policy")
	if !ok {
		return nil, false
	}
	p = &Policy{Where: s.at(n)}
	what := "policy"
	for _, f := range fields {
		if f.name == "name" {
			p.Name = s.name(f.value, "name")
			if p.Name == CanaryName {
				s.problem(f.value, "policy name %q is taken by the canary: choose another", p.Name)
			}
			if p.Name == defaultName {
				s.problem(f.value, "policy name %q is taken by the default action: choose another", p.Name)
			}
			what = fmt.Sprintf("policy %q", p.Name)
		}
	}
	s.known(fields, what, policyFields)
	given := map[string]*yaml.Node{}
	match = true
	for _, f := range fields {
		given[f.name] = f.key
		before := len(l.problems)
		l.policyField(s, p, what, f)
		if (f.name == "images" || f.name == "digests") && len(l.problems) > before {
			match = false
		}
	}
	for _, f := range fields {
		if f.name == "attestations" { // they name authorities
			s.attestations(p, f.value, what+": attestations")
		}
	}
	checkPolicy(s, p, what, n, given)
	if p.Static == Verify && p.Threshold == 0 {
		p.Threshold = 1
	}
	p.Hash = hashPolicy(p)
	return p, match && len(p.Images)+len(p.Digests) > 0
}

func (l *loader) policyField(s source, p *Policy, what string, f field) {
	label := what + ": " + f.name
	switch f.name {
	case "images":
		nodes, _ := s.texts(f.value, label)
		for _, n := range nodes {
			if text, ok := s.text(n, label); ok {
				g, err := ParseGlob(text)
				if err != nil {
					s.problem(n, "%s: %v", what, err)
					continue
				}
				p.Images = append(p.Images, g)
			}
		}
	case "digests":
		nodes, _ := s.texts(f.value, label)
		for _, n := range nodes {
			if text, ok := s.text(n, label); ok {
				if !digestForm.MatchString(text) {
					s.problem(
						n,
						"%s: %s is not a digest: write sha256: and 64 lower-case hex digits, or sha512: and 128",
						label,
						brief(n),
					)
					continue
				}
				p.Digests = append(p.Digests, text)
			}
		}
	case "static":
		switch word, _ := s.choice(f.value, label, "allow", "deny"); word {
		case "allow":
			p.Static = Allow
		case "deny":
			p.Static = Deny
		}
	case "mode":
		if word, _ := s.choice(f.value, label, "enforce", "warn"); word == "warn" {
			p.Mode = Warn
		}
	case "children":
		word, _ := s.choice(f.value, label, "index", "own")
		p.OwnChildren = word == "own"
	case "expires":
		p.Expires = s.expires(f.value, label)
	case "threshold":
		number, ok := s.integer(f.value, label)
		if ok && number < 1 {
			s.problem(f.value, "%s must be at least 1", label)
		}
		p.Threshold = number
	case "annotations":
		p.Annotations = s.annotations(f.value, label)
	case "signatureRepository":
		if text, ok := s.text(f.value, label); ok && text != "" {
			repo, err := ParseRepository(text)
			if err != nil {
				s.problem(f.value, "%s: %v", label, err)
			}
			p.SignatureRepository = repo
		}
	case "authorities":
		l.authorities(s, p, what, f.value)
	}
}

// checkPolicy finds fields that are missing or contradict each other. given
// holds the key node of every field written.
func checkPolicy(s source, p *Policy, what string, n *yaml.Node, given map[string]*yaml.Node) {
	if given["name"] == nil {
		s.problem(n, "policy has no name: add one")
	}
	if given["images"] == nil && given["digests"] == nil {
		s.problem(
			n,
			"%s has no images and no digests: it would match nothing; for everything write images: [\"**\"]",
			what,
		)
	}
	static := given["static"]
	if static == nil && given["authorities"] == nil {
		s.problem(n, "%s has neither static nor authorities: add one", what)
	}
	if static != nil {
		for _, name := range []string{
			"authorities",
			"threshold",
			"annotations",
			"attestations",
			"signatureRepository",
		} {
			if key := given[name]; key != nil {
				s.problem(
					key,
					"%s: %s has no effect with static, which verifies nothing: remove one of the two",
					what,
					name,
				)
			}
		}
		if key := given["mode"]; key != nil && p.Mode == Warn {
			s.problem(key, "%s: mode: warn has no effect with static: remove one of the two", what)
		}
	}
	if key := given["expires"]; key != nil && p.Static != Allow && p.Mode != Warn {
		s.problem(key, "%s: expires is only for static: allow or mode: warn", what)
	}
	if key := given["threshold"]; key != nil && given["authorities"] != nil && p.Threshold > 1 {
		if p.Threshold > len(p.Authorities) {
			s.problem(
				key,
				"%s: threshold %d is above the number of authorities, %d",
				what,
				p.Threshold,
				len(p.Authorities),
			)
		}
	}
}

// expires reads the last day of an exemption and returns the instant it ends.
func (s source) expires(n *yaml.Node, label string) time.Time {
	if n.Kind == yaml.ScalarNode {
		if day, err := time.Parse(time.DateOnly, n.Value); err == nil && day.Year() >= 2000 {
			return day.AddDate(0, 0, 1)
		}
	}
	s.problem(n, "%s must be a day as YYYY-MM-DD, not %s", label, brief(n))
	return time.Time{}
}

func (s source) annotations(n *yaml.Node, label string) map[string]string {
	fields, _ := s.mapping(n, label)
	all := make(map[string]string, len(fields))
	for _, f := range fields {
		if f.name == "" {
			s.problem(f.key, "%s: an annotation needs a name", label)
		}
		if value, ok := s.text(f.value, label+": "+f.name); ok {
			all[f.name] = value
		}
	}
	return all
}

func (s source) name(n *yaml.Node, label string) string {
	text, ok := s.text(n, label)
	if !ok {
		return ""
	}
	if text == "" || len(text) > maxName || !printable(text) || strings.TrimSpace(text) != text {
		s.problem(
			n,
			"%s must be 1 to %d printable characters without spaces around them, not %s",
			label,
			maxName,
			brief(n),
		)
	}
	return text
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0
}

// absolute resolves a path written in the source.
func (s source) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(s.dir, path)
}
