package policy

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"strings"
)

const (
	maxKeyFile = 64 << 10 // bytes
	minRSABits = 2048
	maxRSABits = 8192 // larger ones make every verification slow
	pemBegin   = "-----BEGIN "
)

// ParseKey reads exactly one PEM public key. The caller sets Source.
func ParseKey(text []byte) (Key, error) {
	body := strings.TrimSpace(string(text))
	switch {
	case len(body) > maxKeyFile:
		return Key{}, fmt.Errorf("is larger than %d KiB: not a public key", maxKeyFile>>10)
	case !strings.HasPrefix(body, pemBegin):
		return Key{}, errors.New("is not a PEM public key: it must start with -----BEGIN PUBLIC KEY-----")
	}

	block, rest := pem.Decode([]byte(body))
	if strings.Count(body, pemBegin) > 1 || block != nil && len(rest) > 0 {
		return Key{}, errors.New(
			"has something after its first PEM block: put one key into each file, list several under keys",
		)
	}
	if block == nil {
		return Key{}, errors.New("is not valid PEM: copy it again, whole")
	}

	public, err := parsePublic(block)
	if err != nil {
		return Key{}, err
	}
	if err := checkPublic(public); err != nil {
		return Key{}, err
	}

	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("cannot be encoded again: %w", err)
	}
	id := sha256.Sum256(der)
	return Key{Public: public, ID: hex.EncodeToString(id[:])}, nil
}

func parsePublic(block *pem.Block) (public any, err error) {
	switch {
	case block.Type == "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return nil, errors.New(
			"is a private key, which has no place here: give the public key (cosign public-key --key …)",
		)
	case strings.HasSuffix(block.Type, "CERTIFICATE"):
		return nil, errors.New("is a certificate, not a public key: extract its key (openssl x509 -pubkey -noout)")
	default:
		return nil, fmt.Errorf("is a PEM %q, not a PUBLIC KEY", block.Type)
	}

	if err != nil {
		return nil, fmt.Errorf("is not a valid public key: %w", err)
	}
	return public, nil
}

// checkPublic refuses keys that are weak, malformed, or slow to verify with.
func checkPublic(public any) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return errors.New("is on an unsupported curve: use P-256, P-384 or P-521")
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("is an RSA key of %d bits: %d to %d are accepted", bits, minRSABits, maxRSABits)
		}
		if k.N.Bit(0) == 0 {
			return errors.New("is an RSA key with an even modulus")
		}
		if k.E < 3 || k.E%2 == 0 || k.E > math.MaxInt32 {
			return errors.New("is an RSA key whose public exponent is not an odd number from 3 to 2^31")
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}

	return fmt.Errorf("is a %T: use ECDSA, RSA or Ed25519", public)
}

// maxCertificates bounds a file of certificates.
const maxCertificates = 64

// parseCertificates reads a PEM file that holds certificates of CAs alone.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest

		c, err := parseCA(block)
		if err != nil {
			return nil, err
		}
		if list = append(list, c); len(list) > maxCertificates {
			return nil, fmt.Errorf("holds more than %d certificates", maxCertificates)
		}
	}

	if strings.TrimSpace(string(text)) != "" && strings.Contains(string(text), pemBegin) {
		return nil, errors.New("is cut off or not valid PEM")
	}
	if len(list) == 0 {
		return nil, errors.New("holds no PEM certificate")
	}
	return list, nil
}

func parseCA(block *pem.Block) (*x509.Certificate, error) {
	if block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("holds a PEM %q, not only certificates", block.Type)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("holds something that is no certificate: %w", err)
	}

	if !c.IsCA {
		return nil, fmt.Errorf("holds a certificate that is no CA's (%.200q)", c.Subject.String())
	}
	if err := checkPublic(c.PublicKey); err != nil {
		return nil, fmt.Errorf("holds a certificate (%.200q) whose key %w", c.Subject.String(), err)
	}
	return c, nil
}
