package server

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// soonOver is when the end of a certificate is worth a word.
const soonOver = 30 * 24 * time.Hour

// tlsConfig is what the port for pulls speaks. Certificate and authorities are
// those of the configuration in force when a handshake begins.
func (r *reloader) tlsConfig() *tls.Config {
	base := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.cert.Load(), nil },
	}

	listens := base.Clone()
	listens.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		issued := r.current().identities.certificates.made
		if issued == nil {
			return nil, nil // as it is
		}
		asks := base.Clone()
		asks.ClientAuth = tls.RequestClientCert // package clients looks at it, for each request
		asks.ClientCAs = issued.Roots()
		return asks, nil
	}
	return listens
}

// Ending are the certificates that have ended or will soon: the listener's, and
// those of the authorities of clients.
func (l *Loaded) Ending(now time.Time) []policy.Problem {
	var list []policy.Problem
	add := func(path string, c *x509.Certificate) {
		says := "will end"
		if now.After(c.NotAfter) {
			says = "has ended"
		}
		if now.Add(soonOver).After(c.NotAfter) {
			list = append(list, l.Config.Problem(path, "%s: the certificate %q %s on %s",
				path, c.Subject, says, c.NotAfter.UTC().Format(time.DateOnly)))
		}
	}

	if own, err := l.certificate(); err == nil && own != nil && own.Leaf != nil {
		add("tls.certFile", own.Leaf)
	}
	if issued := l.identities.certificates.made; issued != nil {
		for _, c := range issued.Authorities() {
			add("tls.clientCAFile", c)
		}
	}
	if a := l.intercepting.authority.made; a != nil {
		for _, c := range a.Certificates() {
			add("intercept.caCertFile", c)
		}
	}
	return list
}
