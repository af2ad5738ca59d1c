package sigs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

// Signer is who made a signature that counts, and what it says.
type Signer struct {
	KeyID     string // SHA-256 of the public key's DER, hex; empty for a certificate
	KeySource string // as the policy names the key: a file, a reference, or "inline"

	Subject string // of the certificate; empty for a key
	Issuer  string // the identity provider; empty for a key and for a PKI of one's own

	Annotations   map[string]string // signed ones
	PredicateType string            // of the statement; a legacy signature's is policy.SignaturePredicate
	Statement     []byte            // the in-toto statement; nil for a legacy signature

	// Until is when the signature stops counting because a certificate ends;
	// zero: never.
	Until time.Time

	key   string   // SHA-256 of the public key that made the signature, hex
	names []string // of the certificate, all of them; a workflow's without its ref
}

// Same reports whether two signatures are one signer's: made with one key,
// whether a policy knows it as such or by a certificate, or with certificates
// that share a name. A workflow is one signer, whichever ref it ran on: who may
// push one branch may push another.
func (s Signer) Same(other Signer) bool {
	if s.key == other.key {
		return true
	}

	return s.Issuer == other.Issuer &&
		slices.ContainsFunc(s.names, func(name string) bool { return slices.Contains(other.names, name) })
}

// certifiedBy is s with the certificate that signed, so that Same can tell.
func (s Signer) certifiedBy(c *x509.Certificate) Signer {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	s.key = hex.EncodeToString(sum[:])
	for _, name := range cryptoutils.GetSubjectAlternateNames(c) {
		if s.Issuer != "" { // of a build service's identity, not of a PKI's own names
			name = withoutRef(name)
		}
		s.names = append(s.names, name)
	}
	return s
}

// withoutRef cuts the ref off a workflow's name, as GitHub and GitLab write it:
// https://host/path/to/workflow@ref.
func withoutRef(name string) string {
	const scheme = "https://"
	rest, ok := strings.CutPrefix(name, scheme)
	if !ok {
		return name
	}

	host, path, _ := strings.Cut(rest, "/")
	path, _, _ = strings.Cut(path, "@")
	return scheme + host + "/" + path
}

// String names the signer for logs and reasons, on one printable line.
func (s Signer) String() string {
	switch {
	case s.KeyID != "":
		return s.KeySource
	case s.Issuer != "":
		return fmt.Sprintf("%.200s, by %.200s", printable(s.Subject), printable(s.Issuer))
	}
	return fmt.Sprintf("%.200s", printable(s.Subject))
}

// printable replaces what could forge a line or steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, s)
}
