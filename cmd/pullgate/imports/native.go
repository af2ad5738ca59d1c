package imports

import (
	"fmt"
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
	email                                        bool // subject is compared with an e-mail name alone
	claims                                       map[string]string
}

type pki struct {
	roots, intermediates, subject string
	email                         bool // subject is compared with e-mail names alone
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
	ownChildren  bool // a platform image needs a signature of its own
	notes        []string
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
