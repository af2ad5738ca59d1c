package clients

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t, "ca"), newAuthority(t, "ca") // of the same name
	middle := &authority{key: newKey(t)}
	middle.certificate = issue(t, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "middle"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, &middle.key.PublicKey, ca.certificate, ca.key)
	uris := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for _, text := range texts {
				c.URIs = append(c.URIs, mustURL(t, text))
			}
			c.DNSNames = []string{"node.example"}
		}
	}
	leaf := ca.client(t, nil)
	node := &authority{key: newKey(t)}
	node.certificate = issue(t, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "node"},
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, &node.key.PublicKey, ca.certificate, ca.key)

	for name, row := range map[string]struct {
		chain []*x509.Certificate
		name  string
		says  string
	}{
		"common name": {chain: []*x509.Certificate{leaf}, name: "cn:node-1.prod"},
		"DNS name": {
			chain: []*x509.Certificate{ca.client(t, func(c *x509.Certificate) {
				c.DNSNames = []string{"Node.Example", "b"}
			})},
			name: "dns:node.example",
		},
		"URI": {
			chain: []*x509.Certificate{ca.client(t, uris("spiffe://acme.example/node/1"))},
			name:  "spiffe://acme.example/node/1",
		},
		"two URIs": {
			chain: []*x509.Certificate{ca.client(t, uris("spiffe://a/b", "spiffe://c/d"))},
			says:  "it has 2 URIs",
		},
		"URI as a user":   {chain: []*x509.Certificate{ca.client(t, uris("user:admin"))}, says: "names no client"},
		"URI as a user//": {chain: []*x509.Certificate{ca.client(t, uris("user://admin"))}, says: "names no client"},
		"URI as a subject": {
			chain: []*x509.Certificate{ca.client(t, uris("sub:system:admin"))},
			says:  "names no client",
		},
		"URI as a DNS name": {
			chain: []*x509.Certificate{ca.client(t, uris("dns:node.example"))}, says: "names no client",
		},
		"URI as a common name": {chain: []*x509.Certificate{ca.client(t, uris("CN:node"))}, says: "names no client"},
		"no name": {
			chain: []*x509.Certificate{ca.client(t, func(c *x509.Certificate) { c.Subject = pkix.Name{} })},
			says:  "names no client",
		},
		"control characters": {
			chain: []*x509.Certificate{ca.client(t, func(c *x509.Certificate) { c.Subject.CommonName = "a\nb" })},
			says:  "names no client",
		},
		"ended": {
			chain: []*x509.Certificate{ca.client(t, func(c *x509.Certificate) {
				c.NotAfter = time.Now().Add(-time.Minute)
			})},
			says: "has ended",
		},
		"not yet": {
			chain: []*x509.Certificate{ca.client(t, func(c *x509.Certificate) {
				c.NotBefore = time.Now().Add(time.Minute)
			})},
			says: "does not hold before",
		},
		"foreign":     {chain: []*x509.Certificate{other.client(t, nil)}, says: "not one that this gate's"},
		"self-signed": {chain: []*x509.Certificate{other.certificate}, says: "not one that this gate's"},
		"foreign, with its authority": {
			chain: []*x509.Certificate{other.client(t, nil), other.certificate}, says: "not one that this gate's",
		},
		"for servers": {
			chain: []*x509.Certificate{ca.client(t, func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			})},
			says: "not one that this gate's",
		},
		"by a leaf": {chain: []*x509.Certificate{node.client(t, nil), node.certificate}, says: "not one"},
		"intermediate": {
			chain: []*x509.Certificate{middle.client(t, nil), middle.certificate},
			name:  "cn:node-1.prod",
		},
		"without it":    {chain: []*x509.Certificate{middle.client(t, nil)}, says: "not one"},
		"the authority": {chain: []*x509.Certificate{ca.certificate}, name: "cn:ca"},
		"too many":      {chain: []*x509.Certificate{leaf, leaf, leaf, leaf, leaf}, says: "more than 3 others"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := New(Config{Certificates: ca.certificates()})
			for range 2 { // by the certificate, then by memory
				client, err := a.Authenticate(asked(shows(row.chain...)))
				if row.says == "" && (err != nil || client.Name != row.name) {
					t.Errorf("%q, %v; want %q", client.Name, err, row.name)
				}
				if row.says != "" && !strings.Contains(refusal(t, err).Text, row.says) {
					t.Errorf("%q, %v; want %q", client.Name, err, row.says)
				}
			}
		})
	}
}

// A certificate ends while its connection lives.
func TestCertificateEnds(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	leaf := ca.client(t, nil)
	now := time.Now()
	a := New(Config{Certificates: ca.certificates(), Now: func() time.Time { return now }})
	r := asked(shows(leaf))
	if client, err := a.Authenticate(r); client.Name == "" {
		t.Fatal(err)
	}
	now = leaf.NotAfter.Add(time.Second)
	if client, err := a.Authenticate(r); err == nil || !strings.Contains(refusal(t, err).Text, "has ended") {
		t.Errorf("%q, %v", client.Name, err)
	}
}

func TestParseAuthorities(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	text := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	for name, row := range map[string]struct{ text, want string }{
		"one": {text(ca.certificate), ""},
		"with words": {
			"Our CA:\n" + text(ca.certificate) + "\nand the next:\n" + text(newAuthority(t, "b").certificate),
			"",
		},
		"empty":        {"", "no PEM certificates"},
		"words":        {"hello", "no PEM certificates"},
		"a leaf":       {text(ca.client(t, nil)), "no certificate authority's"},
		"a key":        {text(ca.certificate) + key, "certificates alone"},
		"damaged":      {strings.Replace(text(ca.certificate), "MII", "AAA", 1), "cannot be read"},
		"cut":          {text(ca.certificate)[:200], "no PEM certificates"},
		"one, one cut": {text(ca.certificate) + text(ca.certificate)[:200], "damaged"},
	} {
		_, err := ParseAuthorities([]byte(row.text))
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

func FuzzNameOf(f *testing.F) {
	f.Add("spiffe://a/b", "dns.example", "cn")
	f.Add("user:x", "", "")
	f.Fuzz(func(t *testing.T, uri, dns, cn string) {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: cn}}
		if u, err := url.Parse(uri); err == nil && uri != "" {
			leaf.URIs = []*url.URL{u}
		}
		if dns != "" {
			leaf.DNSNames = []string{dns}
		}
		name, err := nameOf(leaf)
		if err != nil {
			return
		}
		if strings.HasPrefix(name, "user:") || strings.HasPrefix(name, "sub:") || strings.ContainsAny(name, "\n\x00") {
			t.Errorf("a certificate is called %q", name)
		}
	})
}
