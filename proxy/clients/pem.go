package clients

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxAuthorities bounds a file of certificate authorities, in bytes.
const MaxAuthorities = 1 << 20

// ParseAuthorities reads the certificates of the authorities that clients'
// certificates have to come from. Whatever else is in the file is an error: it
// may be the key, which does not belong there.
func ParseAuthorities(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for rest := text; ; n++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if n == 0 || len(bytes.TrimSpace(rest)) > 0 && bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, errors.New("it holds no PEM certificates, or damaged ones")
			}
			return pool, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %.40q: certificates alone belong there", block.Type)
		}

		certificate, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, fmt.Errorf("certificate %d cannot be read: %w", n+1, err)
		case !certificate.IsCA:
			return nil, fmt.Errorf("certificate %d, %q, is no certificate authority's", n+1, certificate.Subject)
		}
		pool.AddCert(certificate)
	}
}
