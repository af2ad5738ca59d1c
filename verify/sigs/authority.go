package sigs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/reason"
)

// Authority verifies what one policy authority may have signed. It is immutable
// and safe for concurrent use.
type Authority struct {
	policy policy.Authority
	types  []string // predicate types worth verifying: those that count for something

	keys    keyring
	witness []*verify.Verifier // of each key, when evidence is demanded
	roots   []issuing          // for identities
	pki     *pki
	missing []string // roots and keys that have not been loaded
}

// NewAuthority prepares an authority. types are the predicate types that count
// for something when it signed them, beside those it accepts itself. An error
// means that the policy demands what its trust root cannot give.
func NewAuthority(p policy.Authority, types []string, trust Trust) (*Authority, error) {
	a := &Authority{policy: p, types: slices.Concat(p.Accept, types)}
	if err := a.addKeys(trust); err != nil {
		return nil, err
	}
	roots := a.findRoots(trust)

	switch {
	case len(p.Identities) > 0:
		return a, a.forIdentities(roots)
	case p.PKI != nil:
		return a, a.forPKI(roots)
	case len(p.Keys)+len(p.KMS) == 0:
		return nil, errors.New("it has no key")
	}
	return a, a.forKeys(roots)
}

// findRoots lists the trust roots that the policy names, and notes those that
// have not been loaded.
func (a *Authority) findRoots(trust Trust) []*Root {
	var roots []*Root
	for _, name := range a.policy.TrustRoots {
		r := trust.Roots[name]
		if r == nil {
			a.missing = append(a.missing, "trust root "+name)
			continue
		}
		roots = append(roots, r)
	}
	return roots
}

// demands are the evidence that the policy asks for beside a signature.
func (a *Authority) demands() demands {
	return demands{logEntry: a.policy.TransparencyLog, timestamp: a.policy.Timestamp}
}

// needsRoot reports whether nothing can count without the trust root.
func (a *Authority) needsRoot() bool {
	return a.policy.TransparencyLog || a.policy.Timestamp || a.policy.PKI != nil && a.policy.PKI.RequireTimestamp
}

// Name is the policy's name for the authority.
func (a *Authority) Name() string { return a.policy.Name }

// Accepts reports whether what s says counts as the authority's signature.
func (a *Authority) Accepts(s Signer) bool { return slices.Contains(a.policy.Accept, s.PredicateType) }

// Wants reports whether what is of this predicate type counts for something when
// the authority signed it.
func (a *Authority) Wants(predicateType string) bool { return slices.Contains(a.types, predicateType) }

// ErrNotLoaded is wrapped by Verify's errors about what might have counted, had
// a root or a key been loaded that is not. Any other error is final.
var ErrNotLoaded = errors.New("not loaded")

// Incomplete returns an error that names the roots and keys not loaded yet; nil
// means that what the authority does not admit is really refused.
func (a *Authority) Incomplete() error {
	if len(a.missing) == 0 {
		return nil
	}

	return fmt.Errorf("%s is not loaded", strings.Join(a.missing, " and "))
}

// undecided adds to a reason that something is missing which might have
// spoken against it.
func (a *Authority) undecided(refused error) error {
	if len(a.missing) == 0 {
		return refused
	}

	return fmt.Errorf("%w (%s: %w)", refused, strings.Join(a.missing, " and "), ErrNotLoaded)
}

// Verify says who of the authority signed what was read, or why it does not
// count. The error is one line for the person whose pull was refused; it quotes
// untrusted text only shortened and escaped. The caller decides what the
// statement is good for.
func (a *Authority) Verify(r *Reading) (Signer, error) {
	if predicate := r.says.PredicateType; !a.Wants(predicate) {
		if predicate == signPredicate {
			return Signer{}, because(
				reason.WrongType,
				errors.New("it is a signature, and this authority accepts only attestations"),
			)
		}
		return Signer{}, because(
			reason.WrongType,
			fmt.Errorf("it is an attestation (%.80q), not a signature", predicate),
		)
	}

	return r.content.verify(a, r.image, r.says)
}

// verify finds who of the authority signed e, and adds that to says.
func (e *entity) verify(a *Authority, image digest.Digest, says Signer) (Signer, error) {
	switch {
	case len(a.policy.Identities) > 0:
		return a.byIdentity(e, image, says)
	case a.pki != nil:
		return a.byPKI(e, says)
	}
	return a.byKey(e, image, says)
}
