package server

import (
	"crypto/tls"
)

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
