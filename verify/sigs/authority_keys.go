package sigs

import (
	"errors"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/verify/reason"
)

// addKeys adds the policy's own keys and those of key services, and notes those
// that have not been loaded.
func (a *Authority) addKeys(trust Trust) error {
	keys := slices.Clone(a.policy.Keys)
	for _, reference := range a.policy.KMS {
		k, ok := trust.Keys[reference]
		if !ok {
			a.missing = append(a.missing, "key "+reference)
			continue
		}
		keys = append(keys, k)
	}

	for _, p := range keys {
		k, err := newKey(p)
		if err != nil {
			return err
		}
		a.keys = append(a.keys, k)
	}
	return nil
}

// forKeys prepares the checks of the evidence beside a key's signature.
func (a *Authority) forKeys(roots []*Root) error {
	if !a.needsRoot() || len(roots) == 0 {
		return nil
	}

	for _, k := range a.keys {
		v, err := roots[0].evidenceVerifier(k.material(), a.demands(), verify.WithNoObserverTimestamps())
		if err != nil {
			return err
		}
		a.witness = append(a.witness, v)
	}
	return nil
}

var errCertificate = because(
	reason.WrongScheme,
	errors.New("it was made with a certificate (keyless), and this authority trusts keys"),
)

// byKey adds to s which of the authority's keys signed e.
func (a *Authority) byKey(e *entity, image digest.Digest, s Signer) (Signer, error) {
	if e.certified && e.bundled {
		return Signer{}, errCertificate
	}

	who, err := a.keys.signed(e)
	if err != nil {
		if e.certified {
			err = errCertificate
		}
		if len(a.keys) < len(a.policy.Keys)+len(a.policy.KMS) {
			return Signer{}, a.undecided(err)
		}
		return Signer{}, err
	}

	if a.needsRoot() { // else the signature is all that is asked for
		if err := a.witnessed(e, image, who); err != nil {
			return Signer{}, err
		}
	}

	s.KeyID, s.KeySource, s.key = who.ID, who.Source, who.ID
	return s, nil
}

// witnessed checks the evidence beside a signature that who made.
func (a *Authority) witnessed(e *entity, image digest.Digest, who key) error {
	if len(a.witness) == 0 {
		return a.undecided(errors.New("its evidence cannot be checked"))
	}
	if err := e.prove(); err != nil {
		return err
	}

	i := slices.IndexFunc(a.keys, func(k key) bool { return k.ID == who.ID })
	return run(a.witness[i], e.keyed(), image, verify.WithKey())
}
