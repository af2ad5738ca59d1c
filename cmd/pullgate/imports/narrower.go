package imports

import (
	"regexp"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// within reports whether whatever signature counts for a counts for wide as
// well. It may deny this wrongly, never affirm it.
func (c *comparing) within(a, wide authority) bool {
	switch {
	case a.accept != wide.accept, wide.log && !a.log, wide.stamp && !a.stamp:
		return false
	case (wide.log || wide.stamp) && a.root != wide.root:
		return false
	case a.pki != nil || wide.pki != nil:
		return a.pki != nil && wide.pki != nil && *a.pki == *wide.pki && a.root == wide.root
	case len(a.keys) > 0:
		return every(a.keys, func(key string) bool { return hasKey(wide.keys, key) })
	case len(wide.keys) > 0 || len(a.identities) == 0:
		return false
	}

	return every(rootsOf(a), func(root string) bool { return slices.Contains(rootsOf(wide), root) }) &&
		every(a.identities, func(id identity) bool {
			return slices.ContainsFunc(
				wide.identities,
				func(other identity) bool { return c.identityWithin(id, other) },
			)
		})
}

func every[T any](list []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(list, func(item T) bool { return !holds(item) })
}

// rootsOf are the trust roots of identities, written out.
func rootsOf(a authority) []string {
	if len(a.roots) == 0 {
		return []string{policy.PublicGood}
	}
	return a.roots
}

// keyID is the same for two texts of one key.
func keyID(key string) string {
	if !strings.Contains(key, "-----BEGIN") {
		return key
	}
	if parsed, err := policy.ParseKey([]byte(key)); err == nil {
		return parsed.ID
	}
	return key
}

func hasKey(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(other string) bool { return keyID(other) == keyID(key) })
}

func (c *comparing) identityWithin(id, wide identity) bool {
	for name, expression := range wide.claims {
		if own, ok := id.claims[name]; !ok || !c.inside(own, expression) {
			return false
		}
	}
	if wide.email && !id.email {
		return false
	}
	return c.nameWithin(id.issued(), wide.issued()) && c.nameWithin(id.named(), wide.named())
}

// name is what an issuer or a subject has to be: a text, or what an expression
// matches. The zero value asks for nothing.
type name struct{ text, expression string }

func (id identity) issued() name { return name{id.issuer, id.issuerRegExp} }

func (id identity) named() name { return name{id.subject, id.subjectRegExp} }

func (n name) asExpression() string {
	if n.text != "" {
		return regexp.QuoteMeta(n.text)
	}
	return n.expression
}

// nameWithin reports whether wide matches all that n does.
func (c *comparing) nameWithin(n, wide name) bool {
	switch {
	case wide == name{} || n == wide:
		return true
	case n == name{} || n.text != "" && wide.text != "":
		return false
	case n.text != "":
		pattern, err := policy.ParsePattern(wide.expression)
		return err == nil && pattern.Match(n.text)
	}
	return c.inside(n.expression, wide.asExpression())
}

// namesMeet reports whether some text may be matched by both.
func (c *comparing) namesMeet(n, other name) bool {
	switch {
	case n == name{} || other == name{}:
		return true
	case n.text != "" && other.text != "":
		return n == other
	}
	return c.meet(n.asExpression(), other.asExpression())
}

// oneSigner reports whether one signer may be counted for either of two
// authorities. It may say so wrongly, never the opposite; keys in files are
// taken for different ones when their files are.
func (c *comparing) oneSigner(a, b authority) bool {
	switch {
	case a.pki != nil && b.pki != nil:
		return a.pki.subject == b.pki.subject
	case a.pki != nil || b.pki != nil:
		return false
	case len(a.keys) > 0 || len(b.keys) > 0:
		return slices.ContainsFunc(a.keys, func(key string) bool { return hasKey(b.keys, key) })
	}

	return slices.ContainsFunc(a.identities, func(id identity) bool {
		return slices.ContainsFunc(b.identities, func(other identity) bool { return c.identitiesMeet(id, other) })
	})
}

func (c *comparing) identitiesMeet(id, other identity) bool {
	for name, expression := range id.claims {
		if theirs, ok := other.claims[name]; ok && !c.meet(expression, theirs) {
			return false
		}
	}
	return c.namesMeet(id.issued(), other.issued()) && c.namesMeet(id.named(), other.named())
}
