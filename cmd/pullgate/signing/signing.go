// Package signing makes signatures, in the formats of cosign, and pushes them
// beside the images they sign. It is kept from the gate: nothing that decides about
// an image can reach this package, so that a gate can make no signature.
package signing

import (
	"context"
	"fmt"
)

// Signer makes signatures. There is one file for each kind.
type Signer interface {
	// Sign signs a payload of any length.
	Sign(ctx context.Context, payload []byte) (Signature, error)
}

// Signature is a signature with what a verifier needs beside the payload.
type Signature struct {
	Raw     []byte // over the SHA-256 of the payload
	KeyHint []byte // SHA-256 of the public key, DER
}

// Format is how a signature is attached to an image.
type Format string

// The formats: a Sigstore bundle, as cosign 3 writes it, and the older kind, which
// cosign 1 and 2 write.
const (
	Bundle Format = "bundle"
	Legacy Format = "legacy"
)

// ParseFormat returns the format that s names.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Bundle, Legacy:
		return f, nil
	}
	return "", fmt.Errorf("--format is %q; it must be bundle or legacy", s)
}
