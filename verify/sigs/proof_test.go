package sigs

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/pullgate/pullgate/policy"
)

// TestRootBesidePKI: a trust root gives a PKI's signatures their time and their
// log, and never a signer. Fulcio certifies anyone who asks, and a PKI's names
// are the PKI's to give.
func TestRootBesidePKI(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	for name, demand := range map[string]func(*policy.Authority){"stamp": mustBeStamped, "log": mustBeLogged} {
		a := c.trusts(t, demand)
		own := altered(c.signed(t), func(s *signing) { s.unlogged, s.unstamped = false, false })
		for format, candidate := range own.formats(t, c.image) {
			t.Run(name+"/own/"+format, func(t *testing.T) { allowed(t, a, candidate, c.image) })
		}
		for format, candidate := range c.keyless.signed(t, email(release), by(someIssuer)).formats(t, c.image) {
			t.Run(name+"/fulcio's/"+format, func(t *testing.T) {
				denied(t, a, candidate, c.image, "was not issued by the trusted authority")
			})
		}
	}
}

// TestLoggedCertificate: a log entry is about one certificate. An entry for
// another certificate of the same key, with the same signature, proves nothing
// of this one.
func TestLoggedCertificate(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	trusted := k.trust(t)
	good := k.signed(t)
	for name, other := range map[string]*x509.Certificate{
		"another name": k.fulcio.leaf(t, good.key.Public(), email("eve@acme.example"), by(someIssuer)),
		"another time": k.fulcio.leaf(t, good.key.Public(), email(somebody), by(someIssuer)),
	} {
		s := altered(good, func(s *signing) {
			s.body = func(b map[string]any) {
				spec := b["spec"].(map[string]any)
				if list, ok := spec["signatures"].([]any); ok {
					list[0].(map[string]any)["verifier"] = pemOf(other)
					return
				}
				spec["signature"].(map[string]any)["publicKey"] = map[string]any{"content": pemOf(other)}
			}
		})
		for format, c := range s.formats(t, k.image) {
			t.Run(name+"/"+format, func(t *testing.T) {
				denied(t, trusted, c, k.image, "no transparency log entry proves it")
			})
		}
	}
}

// TestCostlyEvidence: evidence beyond one log entry, one timestamp and a P-256
// key is looked at only after the certificate's chain. The log here is a
// foreign one, so the reason tells which of the two was looked at first.
func TestCostlyEvidence(t *testing.T) {
	t.Parallel()
	k, other := newKeyless(t), newKeyless(t) // the authorities of both have the same names
	trusted := k.trust(t)
	statement := statementOf(k.image.Encoded())
	forged := func(key crypto.Signer) signing {
		s := other.signed(t)
		s.key, s.leaf = key, other.fulcio.leaf(t, key.Public(), email(somebody), by(someIssuer))
		return s
	}
	twice := map[string]func(*protobundle.VerificationMaterial){
		"two log entries": func(m *protobundle.VerificationMaterial) {
			m.TlogEntries = repeatedOf(m.TlogEntries[0], 2)
		},
		"two timestamps": func(m *protobundle.VerificationMaterial) {
			d := m.TimestampVerificationData
			d.Rfc3161Timestamps = repeatedOf(d.Rfc3161Timestamps[0], 2)
		},
	}
	const (
		chainFirst = "but its certificate was not issued by the trusted authority"
		logFirst   = "but no transparency log entry proves it"
	)
	t.Run("cheap", func(t *testing.T) {
		denied(t, trusted, forged(newECDSA(t, elliptic.P256())).bundle(t, statement), k.image, logFirst)
	})
	for name, edit := range twice {
		t.Run(name, func(t *testing.T) {
			s := forged(newECDSA(t, elliptic.P256()))
			c := s.bundle(t, statement, func(b *protobundle.Bundle) { edit(b.VerificationMaterial) })
			denied(t, trusted, c, k.image, chainFirst)
		})
	}
	for name, key := range newKeys(t) {
		if name == "P-256" {
			continue
		}
		t.Run("a key of "+name, func(t *testing.T) {
			denied(t, trusted, forged(key).bundle(t, statement), k.image, chainFirst)
		})
	}
	t.Run("costly and genuine", func(t *testing.T) {
		c := k.signed(t).bundle(t, statement, func(b *protobundle.Bundle) {
			twice["two timestamps"](b.VerificationMaterial)
		})
		allowed(t, trusted, c, k.image)
	})
}

// TestChainMembers: only authorities belong into a chain. Another signer's
// certificate there is refused, whether the path needs it or not.
func TestChainMembers(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	a := c.trusts(t)
	signer := &issuer{key: newECDSA(t, elliptic.P256())}
	signer.cert = c.intermediate.leaf(t, signer.key.Public(), email("signer@acme.example"))
	for name, s := range map[string]signing{
		"unneeded": altered(c.signed(t), func(s *signing) { s.chain = append(s.chain, signer.cert) }),
		"as the issuer": altered(c.signed(t), func(s *signing) {
			s.leaf = signer.leaf(t, s.key.Public(), email(release))
			s.chain = append([]*x509.Certificate{signer.cert}, s.chain...)
		}),
	} {
		for format, candidate := range s.formats(t, c.image) {
			t.Run(name+"/"+format, func(t *testing.T) {
				denied(t, a, candidate, c.image, "its certificate chain holds a certificate that is no CA's")
			})
		}
	}
}
