// Package sigs reads the formats cosign writes and does the cryptography:
// bytes in, signer out. It fetches nothing, remembers nothing and trusts
// nothing but the keys it was made with. Everything a Candidate holds is
// untrusted.
package sigs

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// Media types and annotations of cosign's formats (cosign SIGNATURE_SPEC, sigstore bundle specification).
const (
	// MediaTypeSimpleSigning is the layer that holds a legacy signature's payload.
	MediaTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	// MediaTypeDSSE is the layer that holds a legacy attestation.
	MediaTypeDSSE = "application/vnd.dsse.envelope.v1+json"
	// ArtifactTypeSignature marks a legacy signature attached as a referrer (OCI 1.1 mode).
	ArtifactTypeSignature = "application/vnd.dev.cosign.artifact.sig.v1+json"
	// AnnotationSignature holds a legacy signature in base64, on its layer.
	AnnotationSignature = "dev.cosignproject.cosign/signature"

	annotationCertificate = "dev.sigstore.cosign/certificate"
	bundlePrefix          = "application/vnd.dev.sigstore.bundle"
	signPredicate         = "https://sigstore.dev/cosign/sign/v1"
	payloadType           = "cosign container image signature"
	inToto                = "application/vnd.in-toto+json"
)

// IsBundle reports whether a media or artifact type is a Sigstore bundle's, in
// both spellings: ".bundle.v0.3+json" and ".bundle+json;version=0.1".
func IsBundle(mediaType string) bool {
	rest, ok := strings.CutPrefix(mediaType, bundlePrefix)
	return ok && (strings.HasPrefix(rest, ".v0.") || strings.HasPrefix(rest, "+json"))
}

// Kind is the format of a candidate.
type Kind int

const (
	// Legacy is a simple-signing payload with its signature in an annotation.
	Legacy Kind = iota + 1
	// Bundle is a Sigstore bundle.
	Bundle
)

// Candidate is one thing that claims to be a signature.
type Candidate struct {
	Kind        Kind
	Source      string // where it was found, for reasons
	Payload     []byte // the simple-signing payload, or the bundle
	Annotations map[string]string
}

// Signer is who made a signature that counts.
type Signer struct {
	KeyID       string // SHA-256 of the public key's DER, hex
	KeySource   string // as the policy names the key: a file, or "inline"
	Annotations map[string]string
}

// MaxPayload is the largest simple-signing payload, or bundle, that can count
// as a signature, in bytes. Attestations may be larger.
const MaxPayload = 256 << 10

// Bounds on one signature, before anything is parsed or computed.
const (
	maxSignatureText = 16 << 10 // base64 of a signature: RSA-8192 needs 1368
	maxLogEntries    = 4
	maxTimestamps    = 4
	maxCertificates  = 8
	maxDepth         = 16
	maxTokens        = 10_000
)

// names reports whether d is text's digest, whole and exact.
func names(text string, d digest.Digest) bool { return text == d.String() }
