package intercept

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// TestConstraints: what was signed with the authority's key for another host is no
// certificate to those who trust the authority, and for an address it is none either.
func TestConstraints(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "reg.example")
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	forge := func(change func(*x509.Certificate)) error {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1),
			NotBefore:    time.Now().Add(-time.Minute),
			NotAfter:     time.Now().Add(time.Minute),
			ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		change(template)
		der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, a.leafKey.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if len(c.DNSNames) == 0 && len(c.IPAddresses) == 0 {
			usage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}
		_, err = c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: usage})
		return err
	}
	if err := forge(func(c *x509.Certificate) { c.DNSNames = []string{"reg.example"} }); err != nil {
		t.Errorf("its own: %v", err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"another host": func(c *x509.Certificate) { c.DNSNames = []string{"bank.example"} },
		"one of two":   func(c *x509.Certificate) { c.DNSNames = []string{"reg.example", "bank.example"} },
		"an address":   func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} },
		"IPv6":         func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")} },
		"a client":     func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "node"} },
		"an authority": func(c *x509.Certificate) {
			c.DNSNames = []string{"bank.example"}
			c.IsCA, c.BasicConstraintsValid = true, true
		},
	} {
		if forge(change) == nil {
			t.Errorf("%s is trusted", name)
		}
	}
	if _, err := a.leaf("bank.example"); err == nil || !strings.Contains(err.Error(), "bank.example") {
		t.Errorf("a leaf for another host: %v", err)
	}
	if _, err := a.leaf("evilreg.example"); err == nil {
		t.Error("a leaf for a host that ends alike")
	}
}

// TestUnfitAuthorities: what would have nodes trust too much, or nothing, is no
// authority.
func TestUnfitAuthorities(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	forge := func(key *ecdsa.PrivateKey, change func(*x509.Certificate)) *x509.Certificate {
		c, err := MakeAuthority([]string{"reg.example"}, key, now, now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		template := *c
		template.Raw, template.ExtraExtensions = nil, nil
		change(&template)
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, row := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"not critical":   {func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false }, "name constraints"},
		"no constraints": {func(c *x509.Certificate) { c.PermittedDNSDomains = nil }, "name constraints"},
		"addresses":      {func(c *x509.Certificate) { c.ExcludedIPRanges = nil }, "IP addresses"},
		"IPv6 addresses": {func(c *x509.Certificate) { c.ExcludedIPRanges = c.ExcludedIPRanges[:1] }, "IP addresses"},
		"ended":          {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, "ended"},
		"not begun":      {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, "begins"},
		"no authority": {
			func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero, c.MaxPathLen = false, false, -1 },
			"no certificate authority",
		},
	} {
		_, err := NewAuthority([]*x509.Certificate{forge(key, row.change)}, key, time.Now)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewAuthority(
		[]*x509.Certificate{forge(other, func(*x509.Certificate) {})},
		key,
		time.Now,
	); err == nil {
		t.Error("a key that belongs to no certificate")
	}
}

// TestRotation: while two authorities are in the file, the one whose key is there
// signs, and a node that has the file trusts both.
func TestRotation(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var bundle []*x509.Certificate
	var keys []*ecdsa.PrivateKey
	roots := x509.NewCertPool()
	for range 2 {
		key, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		c, err := MakeAuthority([]string{"reg.example"}, key, now, now.Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		bundle, keys = append(bundle, c), append(keys, key)
		roots.AddCert(c)
	}
	for i, key := range keys {
		a, err := NewAuthority(bundle, key, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := a.leaf("reg.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.Leaf.CheckSignatureFrom(bundle[i]); err != nil {
			t.Errorf("authority %d: %v", i, err)
		}
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "reg.example"}); err != nil {
			t.Errorf("authority %d: %v", i, err)
		}
	}
}

// TestLeaves: a leaf is remembered until a third of its day is left, and never
// outlives its authority.
func TestLeaves(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c, err := MakeAuthority([]string{"reg.example"}, key, now, now.Add(30*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthority([]*x509.Certificate{c}, key, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	leaf := func() *tls.Certificate {
		made, err := a.leaf("reg.example")
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	first := leaf()
	now = now.Add(leafLife - leafRenew - time.Minute)
	if leaf() != first {
		t.Error("it is made anew too early")
	}
	now = now.Add(2 * time.Minute)
	second := leaf()
	if second == first {
		t.Error("it is used until its end")
	}
	if second.Leaf.NotAfter.After(c.NotAfter) {
		t.Error("it outlives its authority")
	}
}
