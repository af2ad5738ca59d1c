package signing

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/sigstore/sigstore/pkg/signature"
)

// keySigner signs with a key as cosign does: everything is hashed with SHA-256,
// whatever the key's curve.
type keySigner struct {
	signer signature.Signer
	hint   []byte
}

// NewKeySigner returns a signer that signs with a private key: ECDSA, RSA or
// Ed25519.
func NewKeySigner(key crypto.PrivateKey) (Signer, error) {
	signer, err := signature.LoadSigner(key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("use the private key: %w", err)
	}
	public, err := signer.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("use the private key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("write the key's hint: %w", err)
	}

	hint := sha256.Sum256(der)
	return &keySigner{signer: signer, hint: hint[:]}, nil
}

func (s *keySigner) Sign(_ context.Context, payload []byte) (Signature, error) {
	raw, err := s.signer.SignMessage(bytes.NewReader(payload))
	if err != nil {
		return Signature{}, fmt.Errorf("sign: %w", err)
	}
	return Signature{Raw: raw, KeyHint: s.hint}, nil
}
