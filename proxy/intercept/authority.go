// Package intercept ends the TLS of runtimes that go to a registry through the
// gate as their proxy, and hands what they ask for to the corridor. It knows
// CONNECT, server names and certificates. It must not know images or policies: who
// is asked for what, the corridor finds out.
package intercept

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	leafLife  = 24 * time.Hour
	leafRenew = 8 * time.Hour // before its end a leaf is made anew
	skew      = 5 * time.Minute

	// maxLeaves bounds the leaves that are remembered. Behind a wildcard stand as
	// many names as a client makes up.
	maxLeaves = 1000
)

// Authority makes the certificates that intercepted clients see. Its name
// constraints are what a node that trusts it trusts it for, and no more. Safe for
// concurrent use.
type Authority struct {
	certificate *x509.Certificate
	bundle      []*x509.Certificate
	key         crypto.Signer
	leafKey     *ecdsa.PrivateKey
	now         func() time.Time

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

// NewAuthority checks an authority's certificates and the key of one of them. That
// one signs; the others are those that come before it or after it, which nodes
// trust, too, while one takes over from another.
func NewAuthority(bundle []*x509.Certificate, key crypto.Signer, now func() time.Time) (*Authority, error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, errors.New("the key is of a kind that signs no certificates")
	}
	i := slices.IndexFunc(bundle, func(c *x509.Certificate) bool { return public.Equal(c.PublicKey) })
	if i < 0 {
		return nil, errors.New("the key belongs to none of the certificates")
	}
	signing := bundle[i]
	if err := checkAuthority(signing, now()); err != nil {
		return nil, err
	}

	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of leaves: %w", err)
	}
	return &Authority{
		certificate: signing,
		bundle:      bundle,
		key:         key,
		leafKey:     leafKey,
		now:         now,
		leaves:      map[string]*tls.Certificate{},
	}, nil
}

// checkAuthority refuses what would have nodes trust more than the gate needs. Name
// constraints that are not critical are passed over by some verifiers (RFC 5280,
// section 4.2.1.10 demands that they are).
func checkAuthority(c *x509.Certificate, now time.Time) error {
	switch {
	case !c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("it is no certificate authority's certificate")
	case len(c.PermittedDNSDomains) == 0 || !c.PermittedDNSDomainsCritical:
		return errors.New("it has no critical name constraints: whoever stole its key could be any host to every " +
			"node; make one with `pullgate ca`")
	case !excludesAddresses(c):
		return errors.New("its name constraints leave IP addresses open; make one with `pullgate ca`")
	case now.After(c.NotAfter):
		return fmt.Errorf("it has ended on %s; make another with `pullgate ca --renew`",
			c.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(c.NotBefore):
		return fmt.Errorf("it begins on %s", c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// excludesAddresses reports whether c can issue no certificate for any address.
func excludesAddresses(c *x509.Certificate) bool {
	four, six := false, false
	for _, n := range c.ExcludedIPRanges {
		ones, bits := n.Mask.Size()
		four = four || ones == 0 && bits == 32
		six = six || ones == 0 && bits == 128
	}
	return four && six
}

// Allows reports whether nodes that trust the authority take its certificate for
// host, which has no port.
func (a *Authority) Allows(host string) bool {
	return slices.ContainsFunc(a.certificate.PermittedDNSDomains, func(domain string) bool {
		domain = strings.ToLower(strings.TrimPrefix(domain, "."))
		return host == domain || strings.HasSuffix(host, "."+domain)
	}) && !slices.ContainsFunc(a.certificate.ExcludedDNSDomains, func(domain string) bool {
		domain = strings.ToLower(strings.TrimPrefix(domain, "."))
		return host == domain || strings.HasSuffix(host, "."+domain)
	})
}

// Certificates are all that nodes should trust.
func (a *Authority) Certificates() []*x509.Certificate { return a.bundle }

// End is when the certificate that signs ends.
func (a *Authority) End() time.Time { return a.certificate.NotAfter }

// leaf is a certificate for host, of a day, from memory where there is one.
func (a *Authority) leaf(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	now := a.now()
	if found, ok := a.leaves[host]; ok && now.Add(leafRenew).Before(found.Leaf.NotAfter) {
		return found, nil
	}
	if !a.Allows(host) {
		return nil, fmt.Errorf("the certificate authority may not issue for %s", host)
	}
	made, err := a.issue(host, now)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for %s: %w", host, err)
	}

	if len(a.leaves) >= maxLeaves {
		for other := range a.leaves { // any: making one again takes less than a millisecond
			delete(a.leaves, other)
			break
		}
	}
	a.leaves[host] = made
	return made, nil
}

func (a *Authority) issue(host string, now time.Time) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	end := now.Add(leafLife)
	if end.After(a.certificate.NotAfter) {
		end = a.certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "pullgate"},
		DNSNames:     []string{host},
		NotBefore:    now.Add(-skew),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, a.leafKey.Public(), a.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.leafKey, Leaf: parsed}, nil
}
