package sigstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// Authorities live so long that fixtures made with them need not be made anew.
// The end stays below 2050, where X.509 changes how it writes a year.
const lifetime = 20 * 365 * 24 * time.Hour

// Authority is a root certificate and an intermediate one below it, which issues.
type Authority struct {
	Root, Intermediate *x509.Certificate

	use x509.ExtKeyUsage
	key *ecdsa.PrivateKey // the intermediate's
}

// NewAuthority makes an authority for certificates of one use.
func NewAuthority(organization string, use x509.ExtKeyUsage) (*Authority, error) {
	root := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: organization + " Root"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		MaxPathLen:            1,
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if root, err = certify(root, root, rootKey, rootKey); err != nil {
		return nil, fmt.Errorf("make the root of %s: %w", organization, err)
	}
	a := &Authority{Root: root, use: use}
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	intermediate := &x509.Certificate{
		Subject: pkix.Name{
			Organization: []string{organization},
			CommonName:   organization + " Intermediate",
		},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{use},
	}
	if a.Intermediate, err = certify(intermediate, root, a.key, rootKey); err != nil {
		return nil, fmt.Errorf("make the intermediate of %s: %w", organization, err)
	}
	return a, nil
}

// Issue makes a certificate and its key, valid for so long from an hour ago;
// zero means as long as the authority. email may be empty.
func (a *Authority) Issue(commonName, email string, valid time.Duration) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{
		Subject:  pkix.Name{Organization: a.Root.Subject.Organization, CommonName: commonName},
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if email != "" {
		leaf.EmailAddresses = []string{email}
	}
	if valid != 0 {
		leaf.NotAfter = start().Add(valid)
	}
	// RFC 3161 wants the use critical for timestamps, which x509 never writes by itself.
	if a.use == x509.ExtKeyUsageTimeStamping {
		use, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			return nil, nil, err
		}
		leaf.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: use}}
	} else {
		leaf.ExtKeyUsage = []x509.ExtKeyUsage{a.use}
	}
	cert, err := certify(leaf, a.Intermediate, key, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate for %s: %w", commonName, err)
	}
	return cert, key, nil
}

// start is when certificates made now begin: clocks differ.
func start() time.Time { return time.Now().Add(-time.Hour).Truncate(time.Second) }

// certify signs template, for key, by the parent and its key.
func certify(template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = start()
	if template.NotAfter.IsZero() {
		template.NotAfter = template.NotBefore.Add(lifetime)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Chain is the PEM of the certificates given, in their order.
func Chain(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// PrivateKey is a key as unencrypted PKCS 8 in PEM.
func PrivateKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PublicKey is a public key as PKIX in PEM.
func PublicKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
