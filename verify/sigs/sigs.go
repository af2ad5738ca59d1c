// Package sigs reads the formats cosign writes and does the cryptography:
// bytes in, signer out. It fetches nothing, remembers nothing and trusts
// nothing but the keys and roots it was made with. Everything a Candidate holds
// is untrusted.
package sigs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

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
	// Bundle is a Sigstore bundle: a signature or an attestation.
	Bundle
	// Envelope is a legacy attestation: a DSSE envelope with its evidence in
	// annotations.
	Envelope
)

// KindOf is the format that a layer of this media type is read as; 0: none.
func KindOf(mediaType string) Kind {
	switch {
	case mediaType == MediaTypeSimpleSigning:
		return Legacy
	case mediaType == MediaTypeDSSE:
		return Envelope
	case IsBundle(mediaType):
		return Bundle
	}
	return 0
}

// Candidate is one thing that claims to be a signature.
type Candidate struct {
	Kind        Kind
	Source      string // where it was found, for reasons
	Payload     []byte // the simple-signing payload, or the bundle
	Annotations map[string]string
}

// Signer is who made a signature that counts, and what it says.
type Signer struct {
	KeyID     string // SHA-256 of the public key's DER, hex; empty for a certificate
	KeySource string // as the policy names the key: a file, a reference, or "inline"

	Subject string // of the certificate; empty for a key
	Issuer  string // the identity provider; empty for a key and for a PKI of one's own

	Annotations map[string]string // signed ones
	// what kind of statement it is; a legacy signature is one of policy.SignaturePredicate
	PredicateType string
	Statement     []byte // the in-toto statement; nil for a legacy signature

	// Until is when it stops counting because of the certificate's own end; zero:
	// never.
	Until time.Time

	key   string   // SHA-256 of the public key that made the signature, hex
	names []string // of the certificate, all of them
}

// Same reports whether two signatures are one signer's: made with one key,
// whether a policy knows it as such or by a certificate, or with certificates
// that share a name.
func (s Signer) Same(other Signer) bool {
	if s.key == other.key {
		return true
	}
	return s.Issuer == other.Issuer &&
		slices.ContainsFunc(s.names, func(name string) bool { return slices.Contains(other.names, name) })
}

// certified notes whose certificate it is, so that Same can tell.
func (s *Signer) certified(c *x509.Certificate) {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	s.key, s.names = hex.EncodeToString(sum[:]), cryptoutils.GetSubjectAlternateNames(c)
}

// String names the signer for logs and reasons, on one printable line.
func (s Signer) String() string {
	switch {
	case s.KeyID != "":
		return s.KeySource
	case s.Issuer != "":
		return fmt.Sprintf("%.200s, by %.200s", printable(s.Subject), printable(s.Issuer))
	}
	return fmt.Sprintf("%.200s", printable(s.Subject))
}

// printable replaces what could forge a line or steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, s)
}

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
)

// names reports whether d is text's digest, whole and exact.
func names(text string, d digest.Digest) bool { return text == d.String() }
