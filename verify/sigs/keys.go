package sigs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"github.com/pullgate/pullgate/policy"
)

// Keys is an authority made of public keys: a signature by any of them counts.
// It is immutable and safe for concurrent use.
type Keys struct{ keys []key }

type key struct {
	policy.Key
	verifiers []signature.Verifier // ways in which this one key signs
}

// NewKeys prepares an authority's keys.
func NewKeys(list []policy.Key) (*Keys, error) {
	if len(list) == 0 {
		return nil, errors.New("it has no key")
	}
	k := &Keys{}
	for _, p := range list {
		verifiers, err := verifiersOf(p.Public)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", p.Source, err)
		}
		k.keys = append(k.keys, key{p, verifiers})
	}
	return k, nil
}

// verifiersOf lists how a key of this type signs. cosign hashes with SHA-256
// whatever the curve, other clients with the curve's own; cosign 2 signs with
// Ed25519ph where cosign 3 signs with pure Ed25519.
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
	}
	v, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	return []signature.Verifier{v}, nil
}

// Verify says who of the authority signed exactly image, or why the candidate
// does not count. The error is one line for the person whose pull was refused;
// it quotes untrusted text only shortened and escaped.
func (k *Keys) Verify(c Candidate, image digest.Digest) (Signer, error) {
	switch {
	case len(c.Payload) > MaxPayload:
		return Signer{}, fmt.Errorf("it is larger than %d KiB, and no signature is", MaxPayload>>10)
	case c.Kind == Legacy:
		return k.verifyLegacy(c, image)
	case c.Kind == Bundle:
		return k.verifyBundle(c, image)
	}
	return Signer{}, errors.New("it is of no known format")
}

var errOtherKey = errors.New("it was made by another key, or altered")

// by finds the key that made sig over message.
func (k *Keys) by(sig, message []byte) (key, error) {
	for _, candidate := range k.keys {
		for _, v := range candidate.verifiers {
			if v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
				return candidate, nil
			}
		}
	}
	return key{}, errOtherKey
}

// anyKey is the authority as a sigstore verifier that notes which key it was.
// It is made for one verification and used by one goroutine.
type anyKey struct {
	keys *Keys
	who  key
}

func (a *anyKey) PublicKey(o ...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return a.keys.keys[0].verifiers[0].PublicKey(o...)
}

func (a *anyKey) VerifySignature(sig, message io.Reader, _ ...signature.VerifyOption) error {
	s, err := io.ReadAll(io.LimitReader(sig, maxSignatureText))
	if err != nil {
		return fmt.Errorf("read signature: %w", err)
	}
	m, err := io.ReadAll(message)
	if err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	a.who, err = a.keys.by(s, m)
	return err
}
