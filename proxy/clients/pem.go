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
func ParseAuthorities(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if len(list) == 0 || bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, errors.New("it holds no PEM certificates, or damaged ones")
			}
			return list, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %.40q: certificates alone belong there", block.Type)
		}

		certificate, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(list)+1, err)
		case !certificate.IsCA:
			return nil, fmt.Errorf(
				"certificate %d, %q, is no certificate authority's",
				len(list)+1,
				certificate.Subject,
			)
		}
		list = append(list, certificate)
	}
}

// Pool is the authorities as TLS takes them.
func Pool(authorities []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, a := range authorities {
		pool.AddCert(a)
	}
	return pool
}
