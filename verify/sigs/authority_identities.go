package sigs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/reason"
)

// issuing is a trust root with the way its certificates are verified.
type issuing struct {
	root     *Root
	verifier *verify.Verifier
}

// forIdentities prepares the checks of the trust roots' certificates.
func (a *Authority) forIdentities(roots []*Root) error {
	for _, r := range roots {
		v, err := r.certificateVerifier(a.demands())
		if err != nil {
			return err
		}
		a.roots = append(a.roots, issuing{r, v})
	}
	return nil
}

// byIdentity adds to s whose certificate signed e.
func (a *Authority) byIdentity(e *entity, image digest.Digest, s Signer) (Signer, error) {
	if !e.certified {
		return Signer{}, because(
			reason.WrongScheme,
			errors.New("it was made with a key, and this authority trusts identities (keyless)"),
		)
	}
	if err := e.prove(); err != nil {
		return Signer{}, err
	}

	// Nothing of the certificate is verified yet; whom it names decides whether
	// that is worth the time.
	claims, err := claimsOf(e.leaf)
	if err != nil {
		return Signer{}, because(reason.Certificate, err)
	}
	if err := a.anyIdentity(claims); err != nil {
		return Signer{}, because(reason.WrongIdentity, err)
	}
	s.Subject, s.Issuer = claims.Subject, claims.Issuer

	refused := fmt.Errorf(
		"its certificate was issued by %.120q, which is none of the trust roots (%s)",
		e.leaf.Issuer.String(),
		strings.Join(a.policy.TrustRoots, ", "),
	)
	for _, r := range a.roots {
		if !r.root.issued(e.leaf, e.chain) {
			continue
		}
		err := r.verify(e, image)
		if err == nil {
			return s.certifiedBy(e.leaf), nil
		}
		refused = fmt.Errorf("it names %s, but %w", s, err)
	}

	return Signer{}, a.undecided(because(reason.Certificate, refused))
}

// verify verifies all of e with the root.
func (r issuing) verify(e *entity, image digest.Digest) error {
	if e.costly() && !r.root.signed(e.leaf, e.chain) {
		return errors.New("its certificate was not issued by the trusted authority")
	}

	return run(r.verifier, e, image, verify.WithoutIdentitiesUnsafe())
}

const maxIdentityReasons = 3

// anyIdentity returns nil if c satisfies one of the policy's identities, or an
// error that says why it satisfies none.
func (a *Authority) anyIdentity(c policy.Claims) error {
	var reasons []string
	for i := range a.policy.Identities {
		err := a.policy.Identities[i].Match(c)
		if err == nil {
			return nil
		}
		if len(reasons) < maxIdentityReasons {
			reasons = append(reasons, err.Error())
		}
	}

	named := Signer{Subject: c.Subject, Issuer: c.Issuer}
	return fmt.Errorf("it names another identity, %s: %s", named, strings.Join(reasons, "; "))
}
