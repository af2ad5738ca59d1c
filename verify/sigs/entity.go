package sigs

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/pullgate/pullgate/verify/reason"
)

// entity is the content of every format that sigstore-go verifies: what was
// signed, the signature, and the evidence beside it. Nothing of it is trusted.
// It implements verify.SignedEntity, serves one verification and is not safe for
// concurrent use.
type entity struct {
	version string // of the bundle; "v0.1" for a legacy signature
	bundled bool   // it came as a Sigstore bundle

	payload   []byte // what is signed: a simple-signing document or a statement
	signature []byte
	envelope  bool // the payload is a statement in a DSSE envelope

	certified bool   // it says that a certificate's owner signed
	hint      string // which key a bundle says it was made with

	// Evidence. A key's signature needs none, so broken evidence is no reason to
	// refuse it. prove reads it.
	annotations  map[string]string // of a legacy signature
	certificates [][]byte          // DER, leaf first
	logEntries   []*protorekor.TransparencyLogEntry
	stamps       [][]byte

	proved bool // prove has been here
	broken error
	leaf   *x509.Certificate // nil: signed with a key
	chain  []*x509.Certificate
	parsed []*tlog.Entry // of logEntries, once
}

// says reads what was signed; an error means that it is not about image.
func (e *entity) says(image digest.Digest) (Signer, error) {
	if e.envelope {
		return e.states(image)
	}

	p, err := parsePayload(e.payload)
	if err != nil {
		return Signer{}, err
	}
	if !names(p.Critical.Image.Digest, image) {
		return Signer{}, because(
			reason.OtherImage,
			fmt.Errorf("it is for another image, %.80q", p.Critical.Image.Digest),
		)
	}

	return Signer{PredicateType: signPredicate, Annotations: p.annotations()}, nil
}

// states is says for an in-toto statement.
func (e *entity) states(image digest.Digest) (Signer, error) {
	s, err := parseStatement(e.payload)
	if err != nil {
		return Signer{}, err
	}
	annotations, err := s.about(image)
	if err != nil {
		return Signer{}, err
	}

	return Signer{PredicateType: s.PredicateType, Annotations: annotations, Statement: e.payload}, nil
}

// keyed is the entity without its certificate.
func (e *entity) keyed() *entity {
	without := *e
	without.certified, without.leaf, without.chain = false, nil, nil
	return &without
}

// The methods below are what sigstore-go asks of what it verifies.

func (e *entity) HasInclusionPromise() bool {
	for _, t := range e.logEntries {
		if len(t.GetInclusionPromise().GetSignedEntryTimestamp()) > 0 {
			return true
		}
	}
	return false
}

func (e *entity) HasInclusionProof() bool {
	for _, t := range e.logEntries {
		if t.GetInclusionProof() != nil {
			return true
		}
	}
	return false
}

func (e *entity) Version() (string, error) { return e.version, nil }

func (e *entity) Timestamps() ([][]byte, error) { return e.stamps, nil }

func (e *entity) TlogEntries() ([]*tlog.Entry, error) {
	if len(e.parsed) == len(e.logEntries) {
		return e.parsed, nil
	}

	parsed := make([]*tlog.Entry, 0, len(e.logEntries))
	for _, t := range e.logEntries {
		entry, err := tlog.ParseTransparencyLogEntry(t)
		if err != nil {
			return nil, fmt.Errorf("log entry: %w", err)
		}
		parsed = append(parsed, entry)
	}

	e.parsed = parsed
	return parsed, nil
}

func (e *entity) SignatureContent() (verify.SignatureContent, error) {
	if !e.envelope {
		sum := sha256.Sum256(e.payload)
		return bundle.NewMessageSignature(sum[:], "SHA2_256", e.signature), nil
	}

	return &bundle.Envelope{Envelope: &dsse.Envelope{
		PayloadType: inToto,
		Payload:     base64.StdEncoding.EncodeToString(e.payload),
		Signatures:  []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(e.signature)}},
	}}, nil
}

func (e *entity) VerificationContent() (verify.VerificationContent, error) {
	if e.leaf == nil {
		return keyContent{}, nil
	}

	return certificateContent{e}, nil
}

// artifact is what sigstore-go compares the signature with.
func (e *entity) artifact(image digest.Digest, raw []byte) verify.ArtifactPolicyOption {
	if !e.envelope {
		return verify.WithArtifact(bytes.NewReader(e.payload))
	}

	return verify.WithArtifactDigest(image.Algorithm().String(), raw)
}

// certificateContent is a certificate with the intermediates that came with it.
type certificateContent struct{ *entity }

func (c certificateContent) CompareKey(key any, _ root.TrustedMaterial) bool {
	other, ok := key.(*x509.Certificate)
	return ok && c.leaf.Equal(other)
}

func (c certificateContent) ValidAtTime(t time.Time, _ root.TrustedMaterial) bool {
	return !t.Before(c.leaf.NotBefore) && !t.After(c.leaf.NotAfter)
}

// Certificate is the leaf. sigstore-go summarizes it before it verifies it, and
// fails where there is neither an address nor a URI; the summary is not used.
func (c certificateContent) Certificate() *x509.Certificate {
	if len(c.leaf.EmailAddresses)+len(c.leaf.URIs) > 0 {
		return c.leaf
	}

	named := *c.leaf
	named.URIs = []*url.URL{{Scheme: "https", Host: "none.invalid"}} // a host, for name constraints to read
	return &named
}

func (c certificateContent) Intermediates() []*x509.Certificate  { return c.chain }
func (c certificateContent) PublicKey() verify.PublicKeyProvider { return nil }

// keyContent is a key, whichever the trusted material holds.
type keyContent struct{}

func (keyContent) CompareKey(key any, tm root.TrustedMaterial) bool {
	verifier, err := tm.PublicKeyVerifier("")
	if err != nil {
		return false
	}
	public, err := verifier.PublicKey()
	if err != nil {
		return false
	}

	other, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && other.Equal(public)
}

func (keyContent) ValidAtTime(t time.Time, tm root.TrustedMaterial) bool {
	verifier, err := tm.PublicKeyVerifier("")
	return err == nil && verifier.ValidAtTime(t)
}

func (keyContent) Certificate() *x509.Certificate      { return nil }
func (keyContent) Intermediates() []*x509.Certificate  { return nil }
func (keyContent) PublicKey() verify.PublicKeyProvider { return keyContent{} }
func (keyContent) Hint() string                        { return "" }
