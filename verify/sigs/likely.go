package sigs

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"slices"
)

// Likelihood is whether a candidate may count for an authority, by what the
// candidate says of itself. Anyone can say anything: it decides what is examined
// first and never what counts. A greater one is more likely.
type Likelihood int

const (
	// Never is a candidate of a predicate type that counts for nothing.
	Never Likelihood = iota
	// Unlikely is a candidate that names a signer whom the authority does not trust.
	Unlikely
	// Possible is a candidate that names no signer.
	Possible
	// Likely is a candidate that names a signer whom the authority trusts.
	Likely
)

// Likelihood is how likely it is that what was read counts for a.
func (a *Authority) Likelihood(r *Reading) Likelihood {
	if !a.Wants(r.says.PredicateType) {
		return Never
	}

	return r.content.likelihood(a)
}

// LayerLikelihood is how likely it is that a legacy signature or attestation
// counts for a, by the annotations of its layer alone.
func (a *Authority) LayerLikelihood(annotations map[string]string) Likelihood {
	e := &entity{annotations: annotations, certified: annotations[annotationCertificate] != ""}

	return e.likelihood(a)
}

func (e *entity) likelihood(a *Authority) Likelihood {
	certificates := len(a.policy.Identities) > 0 || a.pki != nil
	switch {
	case !certificates && e.hint != "":
		return a.keys.hinted(e.hint)
	case !certificates && e.certified && !e.bundled: // a key's signature may bring a certificate, too
		return Unlikely
	case e.certified != certificates:
		return Unlikely
	case !certificates:
		return Possible
	}

	leaf := e.claimedLeaf()
	if leaf == nil {
		return Unlikely
	}
	if a.pki != nil {
		if slices.ContainsFunc(namesOf(leaf, nil, a.policy.PKI), a.policy.PKI.Subject.Match) {
			return Likely
		}
		return Unlikely
	}
	if claims, err := claimsOf(leaf); err != nil || a.anyIdentity(claims) != nil {
		return Unlikely
	}
	return Likely
}

// claimedLeaf is the certificate that e says made it, or nil. The others are not
// parsed, and prove says what is wrong with it.
func (e *entity) claimedLeaf() *x509.Certificate {
	list := e.certificates
	if e.annotations != nil {
		text := e.annotations[annotationCertificate]
		if len(text) > maxAnnotation {
			return nil
		}
		list, _ = pemCertificates(text)
	}

	for _, raw := range list {
		if c, err := parseCertificate(raw); err == nil && !c.IsCA {
			return c
		}
	}
	return nil
}

// hinted is how likely it is that one of the keys made a signature with this
// hint. cosign and this program write the SHA-256 of the key in base64; a hint
// may be any text.
func (k keyring) hinted(hint string) Likelihood {
	sum, err := base64.StdEncoding.DecodeString(hint)
	if err != nil || len(sum) != 32 {
		sum, err = hex.DecodeString(hint)
	}
	if err != nil || len(sum) != 32 {
		return Possible
	}

	id := hex.EncodeToString(sum)
	if slices.ContainsFunc(k, func(one key) bool { return one.ID == id }) {
		return Likely
	}
	return Unlikely
}
