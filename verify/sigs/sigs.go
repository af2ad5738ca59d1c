// Package sigs reads the formats cosign writes and does the cryptography:
// bytes in, signer out. It fetches nothing, remembers nothing and trusts
// nothing but the keys and roots it was made with. Everything a Candidate holds
// is untrusted. It does not know registries, the network or what a verdict is.
package sigs

import (
	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
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
	annotationChain       = "dev.sigstore.cosign/chain"
	annotationLogEntry    = "dev.sigstore.cosign/bundle"
	annotationTimestamp   = "dev.sigstore.cosign/rfc3161timestamp"
	bundlePrefix          = "application/vnd.dev.sigstore.bundle"
	signPredicate         = policy.SignaturePredicate
	payloadType           = "cosign container image signature"
	inToto                = "application/vnd.in-toto+json"
)

// MaxPayload is the largest simple-signing payload, or bundle, that can count
// as a signature, in bytes. Attestations may be larger.
const MaxPayload = 256 << 10

// Bounds on one signature, before anything is parsed or computed.
const (
	maxSignature     = 8 << 10  // bytes
	maxSignatureText = 16 << 10 // base64 of a signature: RSA-8192 needs 1368
	maxLogEntries    = 4
	maxTimestamps    = 4
	maxCertificates  = 8
	maxDepth         = 16
	maxTokens        = 10_000

	// maxBundleTokens bounds the JSON tokens of a bundle. Those of real ones have
	// about 100, and the largest that the bounds above allow, about 450. What has
	// more is refused before it is built, which costs ten times as much as scanning.
	maxBundleTokens = 1000
)

// names reports whether d is text's digest, whole and exact.
func names(text string, d digest.Digest) bool { return text == d.String() }
