package sigs

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// TestSubjectEmail: a policy that asks for an e-mail name is not satisfied by a
// name of another kind that reads the same.
func TestSubjectEmail(t *testing.T) {
	t.Parallel()
	others := func(name string) map[string]template {
		return map[string]template{
			"URI": func(c *x509.Certificate) { c.URIs = []*url.URL{{Path: name}} },
			"DNS": func(c *x509.Certificate) { c.DNSNames = []string{name} },
		}
	}

	t.Run("certificate", func(t *testing.T) {
		c := newCorporate(t)
		asked := c.trusts(t, func(p *policy.Authority) { p.PKI.SubjectEmail = true })
		for _, candidate := range c.signed(t, email(release)).formats(t, c.image) {
			allowed(t, asked, candidate, c.image)
		}
		for kind, names := range others(release) {
			for format, candidate := range c.signed(t, names).formats(t, c.image) {
				t.Run(kind+"/"+format, func(t *testing.T) {
					denied(t, asked, candidate, c.image, "not the e-mail name "+release)
					allowed(t, c.trusts(t), candidate, c.image)
				})
			}
		}
	})

	t.Run("constrained to another kind", func(t *testing.T) {
		c := newCorporate(t, func(c *x509.Certificate) {
			c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"branch.example"}, true
		})
		asked := c.trusts(t, func(p *policy.Authority) { p.PKI.SubjectEmail = true })
		leaf := func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = []string{"a.branch.example"}, []string{release}
		}
		for _, candidate := range c.signed(t, leaf).formats(t, c.image) {
			denied(t, asked, candidate, c.image, "not the e-mail name "+release)
		}
	})

	t.Run("identity", func(t *testing.T) {
		k := newKeyless(t)
		asked := k.trust(t, func(p *policy.Authority) { p.Identities[0].SubjectEmail = true })
		for _, candidate := range k.signed(t, email(somebody), by(someIssuer)).formats(t, k.image) {
			allowed(t, asked, candidate, k.image)
		}
		for format, candidate := range k.signed(t, others(somebody)["URI"], by(someIssuer)).formats(t, k.image) {
			t.Run("URI/"+format, func(t *testing.T) {
				denied(t, asked, candidate, k.image, "subject is not the e-mail name "+somebody)
				allowed(t, k.trust(t), candidate, k.image)
			})
		}
	})
}
