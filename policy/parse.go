package policy

import (
	"fmt"
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
	"name", "images", "digests", "clients", "static", "expires", "mode", "threshold",
	"authorities", "annotations", "attestations", "signatureRepository", "children",
}

var digestForm = regexp.MustCompile(`^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)

// policy reads one entry of the list. It returns nil only when the entry is no
// mapping; otherwise what could be read, so that the checks between policies
// can go on; match says that this includes all it matches.
func (l *loader) policy(v value) (p *Policy, match bool) {
	if v.isForeign() {
		return nil, false
	}
	fields, ok := v.mapping()
	if !ok {
		return nil, false
	}

	p = &Policy{Where: v.At()}
	what := "policy"
	for _, f := range fields {
		if f.name == "name" {
			p.Name = f.policyName()
			what = fmt.Sprintf("policy %q", p.Name)
		}
	}
	v, fields = v.called(what), below(what, fields)
	known(fields, policyFields)

	given := map[string]value{} // the names of the fields written
	match = true
	for _, f := range fields {
		given[f.name] = f.key
		before := len(l.problems)
		l.policyField(p, f, what)
		if (f.name == "images" || f.name == "digests" || f.name == "clients") && len(l.problems) > before {
			match = false
		}
	}
	for _, f := range fields {
		if f.name == "attestations" { // they name authorities
			p.Attestations = p.attestations(f.value)
		}
	}

	p.check(v, given)
	if p.Static == Verify && p.Threshold == 0 {
		p.Threshold = 1
	}
	p.Hash = hashPolicy(p)
	return p, match && len(p.Images)+len(p.Digests) > 0
}

// policyField reads a field into p; what names the policy.
func (l *loader) policyField(p *Policy, f field, what string) {
	switch f.name {
	case "images":
		p.Images = l.configuredGlobs(f.images(what))
	case "digests":
		p.Digests = f.digests()
	case "clients":
		p.Clients = f.clients()
	case "static":
		switch f.choice("allow", "deny") {
		case "allow":
			p.Static = Allow
		case "deny":
			p.Static = Deny
		}
	case "mode":
		if f.choice("enforce", "warn") == "warn" {
			p.Mode = Warn
		}
	case "children":
		p.OwnChildren = f.choice("index", "own") == "own"
	case "expires":
		p.Expires = f.expires()
	case "threshold":
		p.Threshold = f.threshold()
	case "annotations":
		p.Annotations = f.annotations()
	case "signatureRepository":
		p.SignatureRepository = f.repository()
		p.SignatureRepository.Host = l.configured(p.SignatureRepository.Host)
	case "authorities":
		p.Authorities = l.authorities(f.value, what)
	}
}

// images reads a list of globs; what names the policy.
func (v value) images(what string) []Glob {
	var globs []Glob
	for item, text := range v.texts() {
		g, err := ParseGlob(text)
		if err != nil {
			item.problem("%s: %v", what, err)
			continue
		}
		globs = append(globs, g)
	}
	return globs
}

func (v value) digests() []string {
	var list []string
	for item, text := range v.texts() {
		if !digestForm.MatchString(text) {
			item.problem(
				"%s: %s is not a digest: write sha256: and 64 lower-case hex digits, or sha512: and 128",
				v.Path,
				item.brief(),
			)
			continue
		}
		list = append(list, text)
	}
	return list
}

func (v value) threshold() int {
	number, ok := v.integer()
	if ok && number < 1 {
		v.problem("%s must be at least 1", v.Path)
	}
	return number
}

// expires reads the last day of an exemption and returns the instant it ends.
func (v value) expires() time.Time {
	if v.Node.Kind == yaml.ScalarNode {
		day, err := time.Parse(time.DateOnly, v.Node.Value)
		if err == nil && day.Year() >= 2000 {
			return day.AddDate(0, 0, 1)
		}
	}
	v.problem("%s must be a day as YYYY-MM-DD, not %s", v.Path, v.brief())
	return time.Time{}
}

func (v value) annotations() map[string]string {
	fields, _ := v.mapping()
	all := make(map[string]string, len(fields))
	for _, f := range fields {
		if f.name == "" {
			f.key.problem("%s: an annotation needs a name", v.Path)
		}
		if text, ok := f.text(); ok {
			all[f.name] = text
		}
	}
	return all
}

// repository reads a full name; the empty text is none.
func (v value) repository() Repository {
	text, ok := v.text()
	if !ok || text == "" {
		return Repository{}
	}

	repository, err := ParseRepository(text)
	if err != nil {
		v.problem("%s: %v", v.Path, err)
	}
	return repository
}

// policyName reads the name of a policy, which must not be one of the gate's own.
func (v value) policyName() string {
	v = v.called("name")
	name := v.displayName()
	switch name {
	case CanaryName:
		v.problem("policy name %q is taken by the canary: choose another", name)
	case defaultName:
		v.problem("policy name %q is taken by the default action: choose another", name)
	}
	return name
}

// displayName reads a name that messages and headers may show.
func (v value) displayName() string {
	text, ok := v.text()
	if !ok {
		return ""
	}

	if text == "" || len(text) > maxName || !printable(text) || strings.TrimSpace(text) != text {
		v.problem(
			"%s must be 1 to %d printable characters without spaces around them, not %s",
			v.Path,
			maxName,
			v.brief(),
		)
	}
	return text
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0
}

// check finds fields that are missing or contradict each other. given holds the
// name of every field written.
func (p *Policy) check(v value, given map[string]value) {
	has := func(name string) bool {
		_, ok := given[name]
		return ok
	}

	if !has("name") {
		v.problem("policy has no name: add one")
	}
	if !has("images") && !has("digests") {
		v.problem(
			"%s has no images and no digests: it would match nothing; for everything write images: [\"**\"]",
			v.Path,
		)
	}
	if !has("static") && !has("authorities") {
		v.problem("%s has neither static nor authorities: add one", v.Path)
	}
	if has("static") {
		p.checkStatic(v.Path, given)
	}

	if key, ok := given["expires"]; ok && p.Static != Allow && p.Mode != Warn {
		key.problem("%s: expires is only for static: allow or mode: warn", v.Path)
	}
	if key, ok := given["threshold"]; ok && has("authorities") && p.Threshold > 1 && p.Threshold > len(p.Authorities) {
		key.problem(
			"%s: threshold %d is above the number of authorities, %d",
			v.Path,
			p.Threshold,
			len(p.Authorities),
		)
	}
}

// checkStatic finds the fields that static leaves without effect.
func (p *Policy) checkStatic(what string, given map[string]value) {
	for _, name := range []string{
		"authorities",
		"threshold",
		"annotations",
		"attestations",
		"signatureRepository",
	} {
		if key, ok := given[name]; ok {
			key.problem("%s: %s has no effect with static, which verifies nothing: remove one of the two", what, name)
		}
	}
	if key, ok := given["mode"]; ok && p.Mode == Warn {
		key.problem("%s: mode: warn has no effect with static: remove one of the two", what)
	}
}
