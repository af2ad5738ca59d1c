package policy

import (
	"fmt"
	"slices"
	"strings"
)

var (
	keylessFields  = []string{"trustRoots", "identities"}
	identityFields = []string{"issuer", "issuerRegExp", "subject", "subjectRegExp", "subjectEmail", "claims"}
)

// keyless reads keyless: {trustRoots, identities}.
func (l *loader) keyless(v value) (identities []Identity, trustRoots []string) {
	fields, ok := v.mapping()
	if !ok {
		return nil, nil
	}
	known(fields, keylessFields)

	given := false
	for _, f := range fields {
		switch f.name {
		case "trustRoots":
			trustRoots = l.rootNames(f.value)
		case "identities":
			given = true
			items, _ := f.filled()
			for i, item := range items {
				item = item.called(fmt.Sprintf("%s: identity %d", v.Path, i+1))
				if identity, ok := item.identity(); ok {
					identities = append(identities, identity)
				}
			}
		}
	}

	if !given {
		v.problem(
			"%s has no identities, so anyone with an account at any provider could sign: add issuer and subject",
			v.Path,
		)
	}
	return identities, trustRoots
}

// rootNames reads which trust roots an authority names.
func (l *loader) rootNames(v value) []string {
	var names []string
	for item, name := range v.texts() {
		if slices.Contains(names, name) {
			item.problem("%s: %s is there twice", v.Path, item.brief())
			continue
		}
		names = append(names, name)
		l.rootUses = append(l.rootUses, rootUse{item, name})
	}
	return names
}

// identity reads one identity; false means that it cannot be used.
func (v value) identity() (Identity, bool) {
	fields, ok := v.mapping()
	if !ok {
		return Identity{}, false
	}
	known(fields, identityFields)

	var id Identity
	given := map[string]bool{}
	for _, f := range fields {
		given[f.name] = true
		switch f.name {
		case "issuer":
			id.Issuer = f.exact()
		case "issuerRegExp":
			id.Issuer = f.expression()
		case "subject":
			id.Subject = f.exact()
		case "subjectRegExp":
			id.Subject = f.expression()
		case "subjectEmail":
			id.Subject, id.SubjectEmail = f.exact(), true
		case "claims":
			id.Claims = f.claims()
		}
	}
	return id, v.isWhole(id, given)
}

// isWhole reports whether an identity, of which the given fields are written,
// says who may sign.
func (v value) isWhole(id Identity, given map[string]bool) bool {
	for _, name := range []string{"issuer", "subject"} {
		if given[name] && given[name+"RegExp"] {
			v.problem("%s has both %s and %sRegExp: remove one", v.Path, name, name)
			return false
		}
	}

	named := given["subject"] || given["subjectRegExp"]
	if named && given["subjectEmail"] {
		v.problem("%s has subjectEmail beside another subject: remove one", v.Path)
		return false
	}

	switch {
	case !given["issuer"] && !given["issuerRegExp"]:
		v.problem(
			"%s has no issuer: anyone can run an identity provider that names any subject; add issuer",
			v.Path,
		)
		return false
	case !named && !given["subjectEmail"] && len(id.Claims) == 0:
		v.problem(
			"%s has no subject and no claims: anyone with an account at the issuer could sign; add subject, "+
				"subjectRegExp or claims",
			v.Path,
		)
		return false
	}
	return true
}

// exact reads a text that is compared as it is written.
func (v value) exact() Pattern {
	text, ok := v.text()
	if ok && (text == "" || len(text) > maxPattern || !printable(text)) {
		v.problem("%s must be printable text, not %s", v.Path, v.brief())
		return Pattern{}
	}

	if ok && strings.Contains(text, "*") {
		v.problem(
			"%s: %s is compared exactly, * included: for a pattern write %sRegExp",
			v.Path,
			v.brief(),
			v.Path[strings.LastIndex(v.Path, " ")+1:],
		)
	}
	return Exactly(text)
}

func (v value) expression() Pattern {
	text, ok := v.text()
	if !ok {
		return Pattern{}
	}

	p, err := ParsePattern(text)
	if err != nil {
		v.problem("%s: %s %v", v.Path, v.brief(), err)
	}
	return p
}

func (v value) claims() map[string]Pattern {
	fields, ok := v.mapping()
	if !ok {
		return nil
	}
	if len(fields) == 0 {
		v.problem("%s is empty: fill it or leave it out", v.Path)
	}
	known(fields, ClaimNames())

	claims := map[string]Pattern{}
	for _, f := range fields {
		claims[f.name] = f.expression()
	}
	return claims
}
