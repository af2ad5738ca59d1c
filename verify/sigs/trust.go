package sigs

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// Trust is what authorities trust that is not written in a policy. A root or a
// key that is missing has not been loaded yet.
type Trust struct {
	Roots map[string]*Root      // by name
	Keys  map[string]policy.Key // by reference to a key service
}

// Generation identifies the roots and keys that a names, as they are now; it is
// empty when the policy itself says all there is.
func (t Trust) Generation(a policy.Authority) string {
	var parts []string
	for _, name := range a.TrustRoots {
		part := "-"
		if r := t.Roots[name]; r != nil {
			part = r.fingerprint
		}
		parts = append(parts, part)
	}

	for _, reference := range a.KMS {
		part := "-" // written out: the next authority's key must not be taken for this one's
		if key, ok := t.Keys[reference]; ok {
			part = key.ID
		}
		parts = append(parts, part)
	}

	return strings.Join(parts, ",")
}
