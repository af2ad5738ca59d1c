package sigs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// parseCertificate reads one certificate within its bounds.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) == 0 || len(der) > maxCertificate {
		return nil, fmt.Errorf("its certificate is empty or larger than %d KiB", maxCertificate>>10)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errors.New("its certificate cannot be read")
	}

	return c, boundKey(c.PublicKey)
}

// maySign reports whether a certificate is one to sign code with. A chain is
// verified for that use, but where a certificate names no use at all, for any.
func maySign(c *x509.Certificate) error {
	switch {
	case c.IsCA:
		return errors.New("its certificate is an authority's, not a signer's")
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning):
		return errors.New("its certificate is not for signing code (extended key usage codeSigning)")
	}
	return nil
}

// upwards lists those of chain that lead from leaf towards a root, one of each
// name: among several of one name there are as many paths as permutations, and
// each step of each is a signature to verify. A root comes from the policy or
// not at all.
func upwards(leaf *x509.Certificate, chain []*x509.Certificate) []*x509.Certificate {
	seen := map[string]bool{}
	issuerOf := func(c *x509.Certificate) *x509.Certificate {
		for _, other := range chain {
			isRoot := bytes.Equal(other.RawSubject, other.RawIssuer)
			if bytes.Equal(other.RawSubject, c.RawIssuer) && !isRoot && !seen[string(other.RawSubject)] {
				return other
			}
		}
		return nil
	}

	var path []*x509.Certificate
	for c := issuerOf(leaf); c != nil; c = issuerOf(c) {
		seen[string(c.RawSubject)] = true
		path = append(path, c)
	}
	return path
}

// above lists those of others that may lead from leaf to a root, by their names.
func above(leaf *x509.Certificate, others []*x509.Certificate) []*x509.Certificate {
	var list []*x509.Certificate
	seen := map[string]bool{}
	for issuers := [][]byte{leaf.RawIssuer}; len(issuers) > 0; issuers = issuers[1:] {
		issuer := issuers[0]
		if seen[string(issuer)] {
			continue
		}
		seen[string(issuer)] = true

		for _, c := range others {
			if bytes.Equal(c.RawSubject, issuer) {
				list, issuers = append(list, c), append(issuers, c.RawIssuer)
			}
		}
	}
	return list
}

// soonest is when the first of leaf and the certificates above it ends.
func soonest(leaf *x509.Certificate, others []*x509.Certificate) time.Time {
	end := leaf.NotAfter
	for _, c := range above(leaf, others) {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}
