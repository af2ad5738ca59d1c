package sigs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/reason"
)

// key is one public key and the ways in which it signs.
type key struct {
	policy.Key
	verifiers []signature.Verifier
}

func newKey(p policy.Key) (key, error) {
	verifiers, err := verifiersOf(p.Public)
	if err != nil {
		return key{}, fmt.Errorf("key %s: %w", p.Source, err)
	}

	return key{p, verifiers}, nil
}

// verifiersOf lists how a key of this type signs, the usual way first. cosign
// hashes with SHA-256 whatever the curve, other clients with the curve's own;
// cosign 2 signs with Ed25519ph where cosign 3 signs with pure Ed25519. A key
// service fixes the padding and the hash of an RSA key, and the key does not
// say which.
func verifiersOf(public crypto.PublicKey) ([]signature.Verifier, error) {
	switch p := public.(type) {
	case ed25519.PublicKey:
		pure, err := signature.LoadVerifier(p, crypto.SHA512)
		if err != nil {
			return nil, fmt.Errorf("load Ed25519 key: %w", err)
		}
		prehashed, err := signature.LoadVerifierWithOpts(p, options.WithED25519ph())
		if err != nil {
			return nil, fmt.Errorf("load Ed25519ph key: %w", err)
		}
		return []signature.Verifier{pure, prehashed}, nil

	case *ecdsa.PublicKey:
		hashes := []crypto.Hash{crypto.SHA256}
		switch p.Curve {
		case elliptic.P384():
			hashes = append(hashes, crypto.SHA384)
		case elliptic.P521():
			hashes = append(hashes, crypto.SHA512)
		}

		var list []signature.Verifier
		for _, h := range hashes {
			v, err := signature.LoadVerifier(p, h)
			if err != nil {
				return nil, fmt.Errorf("load ECDSA key: %w", err)
			}
			list = append(list, v)
		}
		return list, nil

	case *rsa.PublicKey:
		return rsaVerifiers(p)
	}

	return nil, fmt.Errorf("a %T is no key to verify with", public)
}

// rsaVerifiers lists the ways in which an RSA key signs: PKCS #1 v1.5 or PSS,
// over SHA-256, SHA-384 or SHA-512.
func rsaVerifiers(public *rsa.PublicKey) ([]signature.Verifier, error) {
	var pkcs1, pss []signature.Verifier
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		v, err := signature.LoadRSAPKCS1v15Verifier(public, h)
		if err != nil {
			return nil, fmt.Errorf("load RSA key: %w", err)
		}
		pkcs1 = append(pkcs1, v)

		salted, err := signature.LoadRSAPSSVerifier(public, h, nil) // a salt of any length
		if err != nil {
			return nil, fmt.Errorf("load RSA key: %w", err)
		}
		pss = append(pss, salted)
	}

	return append(pkcs1, pss...), nil
}

var errOtherKey = because(reason.OtherKey, errors.New("it was made by another key, or altered"))

// keyring is what an authority of keys trusts: a signature by any counts.
type keyring []key

// by finds the key that made sig over message.
func (k keyring) by(sig, message []byte) (key, error) {
	for _, candidate := range k {
		for _, v := range candidate.verifiers {
			if v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
				return candidate, nil
			}
		}
	}

	return key{}, errOtherKey
}

// signed finds the key that signed e; what it signs is the payload, or the
// envelope's pre-authentication encoding (DSSE, protocol.md).
func (k keyring) signed(e *entity) (key, error) {
	if e.envelope {
		return k.by(e.signature, dsse.PAE(inToto, e.payload))
	}

	return k.by(e.signature, e.payload)
}

// anyOf is one key as sigstore-go's trusted material: whichever way it signs.
type anyOf struct{ key }

func (a anyOf) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return a.Public, nil
}

func (a anyOf) VerifySignature(sig, message io.Reader, _ ...signature.VerifyOption) error {
	s, err := io.ReadAll(io.LimitReader(sig, maxSignatureText))
	if err != nil {
		return fmt.Errorf("read signature: %w", err)
	}
	m, err := io.ReadAll(message)
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}

	_, err = keyring{a.key}.by(s, m)
	return err
}

// material is one key as what a verifier trusts, for any time.
func (k key) material() root.TrustedMaterial {
	trusted := root.NewExpiringKey(anyOf{k}, time.Time{}, time.Time{})

	return root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return trusted, nil })
}
