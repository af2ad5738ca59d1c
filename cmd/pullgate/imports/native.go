package imports

import (
	"fmt"
	"slices"
	"strings"

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
			r.roots = append(r.roots, trustRoot{
				name: unique,
				file: unique + ".trusted_root.json",
				note: note,
				of:   of,
			})
			return unique
		}

		if r.roots[i].of == of {
			return unique
		}
		unique = fmt.Sprintf("%s-%d", name, n)
	}
}

// defaultName is what pullgate calls its default action; no policy may be called so.
const defaultName = "defaultAction"

// nameAll gives every policy a name of its own, short enough for pullgate.
func nameAll(policies []native) {
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
