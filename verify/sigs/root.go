package sigs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// Root is a Sigstore trusted root: whose certificates, log entries, certificate
// timestamps and RFC 3161 timestamps count. It is immutable and safe for
// concurrent use.
type Root struct {
	name        string
	fingerprint string
	material    root.TrustedMaterial
}

// ParseRoot reads a trusted_root.json.
func ParseRoot(name string, text []byte) (*Root, error) {
	material, err := root.NewTrustedRootFromJSON(text)
	if err != nil {
		return nil, fmt.Errorf("it is no trusted root: %w", err)
	}
	authorities := len(material.FulcioCertificateAuthorities()) + len(material.TimestampingAuthorities())
	if authorities+len(material.RekorLogs()) == 0 {
		return nil, errors.New("it holds no certificate authority, no log and no timestamp authority")
	}

	sum := sha256.Sum256(text)
	return &Root{name: name, fingerprint: hex.EncodeToString(sum[:]), material: material}, nil
}

// Fingerprint is the SHA-256 of what the root was read from, in hex.
func (r *Root) Fingerprint() string { return r.fingerprint }

func (r *Root) hasLog() bool   { return len(r.material.RekorLogs()) > 0 }
func (r *Root) hasStamp() bool { return len(r.material.TimestampingAuthorities()) > 0 }

// issued reports whether one of the root's authorities is named as the issuer
// of leaf. It is a choice among roots, not a verification.
func (r *Root) issued(leaf *x509.Certificate, chain []*x509.Certificate) bool {
	issuers := [][]byte{leaf.RawIssuer}
	for _, c := range chain {
		issuers = append(issuers, c.RawIssuer)
	}
	named := func(c *x509.Certificate) bool {
		return slices.ContainsFunc(issuers, func(issuer []byte) bool { return bytes.Equal(c.RawSubject, issuer) })
	}

	for _, ca := range r.material.FulcioCertificateAuthorities() {
		f, ok := ca.(*root.FulcioCertificateAuthority)
		if !ok || named(f.Root) || slices.ContainsFunc(f.Intermediates, named) {
			return true
		}
	}
	return false
}

// signed reports whether the root's authorities really issued leaf, at its
// beginning or its end. It spares the cost of evidence and replaces nothing.
func (r *Root) signed(leaf *x509.Certificate, chain []*x509.Certificate) bool {
	plain := *leaf // a name of a form that Go does not know is no reason here
	plain.UnhandledCriticalExtensions = nil

	for _, ca := range r.material.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); ok && len(chain) > 0 {
			with := *f
			with.Intermediates = slices.Concat(f.Intermediates, chain)
			ca = &with
		}
		for _, at := range []time.Time{leaf.NotBefore, leaf.NotAfter} {
			if _, err := ca.Verify(&plain, at); err == nil {
				return true
			}
		}
	}
	return false
}

// demands are the evidence that an authority asks for beside a signature.
type demands struct {
	logEntry  bool // of a transparency log
	timestamp bool // of RFC 3161
}

// certificateVerifier verifies the signatures of this root's certificates.
// Evidence belongs to the root: one with certificate logs demands their timestamp
// in the certificate, one with signature logs an entry, and one without, where
// nothing else proves the time, an RFC 3161 timestamp. An authority may only add.
func (r *Root) certificateVerifier(d demands) (*verify.Verifier, error) {
	var options []verify.VerifierOption
	if len(r.material.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}

	if r.hasLog() {
		options = append(options, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	} else if d.logEntry {
		return nil, r.lacksLog()
	}

	if d.timestamp || !r.hasLog() {
		if !r.hasStamp() {
			return nil, r.lacksStamp()
		}
		options = append(options, verify.WithSignedTimestamps(1))
	}

	if len(r.material.FulcioCertificateAuthorities()) == 0 {
		return nil, fmt.Errorf("trust root %q has no certificate authority", r.name)
	}
	return r.verifier(r.material, options)
}

// evidenceVerifier verifies the signatures of material, a key or another PKI,
// with this root's logs and timestamps and without its certificates. untimed is
// how the time is known when d demands no timestamp.
func (r *Root) evidenceVerifier(
	material root.TrustedMaterial,
	d demands,
	untimed verify.VerifierOption,
) (*verify.Verifier, error) {
	var options []verify.VerifierOption
	if d.logEntry {
		if !r.hasLog() {
			return nil, r.lacksLog()
		}
		options = append(options, verify.WithTransparencyLog(1))
	}

	if d.timestamp {
		if !r.hasStamp() {
			return nil, r.lacksStamp()
		}
		options = append(options, verify.WithSignedTimestamps(1))
	} else {
		options = append(options, untimed)
	}

	return r.verifier(root.TrustedMaterialCollection{material, evidenceOnly{r.material}}, options)
}

func (r *Root) lacksLog() error {
	return fmt.Errorf("trust root %q has no transparency log, and the policy demands an entry", r.name)
}

func (r *Root) lacksStamp() error {
	return fmt.Errorf("trust root %q has no timestamp authority, and a timestamp is demanded", r.name)
}

func (r *Root) verifier(material root.TrustedMaterial, options []verify.VerifierOption) (*verify.Verifier, error) {
	v, err := newVerifier(material, options...)
	if err != nil {
		return nil, fmt.Errorf("trust root %q: %w", r.name, err)
	}

	return v, nil
}

// evidenceOnly is a root whose certificates do not count.
type evidenceOnly struct{ root.TrustedMaterial }

func (evidenceOnly) FulcioCertificateAuthorities() []root.CertificateAuthority { return nil }
func (evidenceOnly) CTLogs() map[string]*root.TransparencyLog                  { return nil }
func (evidenceOnly) PublicKeyVerifier(string) (root.TimeConstrainedVerifier, error) {
	return nil, errors.New("a trust root holds no keys of signers")
}
