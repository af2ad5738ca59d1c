package sigs

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
)

// parseBundle reads a bundle and counts what it brings before any of it is
// looked at: log entries are checked while they are parsed.
func parseBundle(b []byte) (*protobundle.Bundle, error) {
	if err := CheckStrict(b, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("the bundle is %w", err)
	}
	pb := &protobundle.Bundle{}
	if err := protojson.Unmarshal(b, pb); err != nil {
		return nil, errors.New("it is no Sigstore bundle")
	}
	m := pb.GetVerificationMaterial()
	switch {
	case len(m.GetTlogEntries()) > maxLogEntries:
		return nil, fmt.Errorf("its bundle holds more than %d log entries", maxLogEntries)
	case len(m.GetTimestampVerificationData().GetRfc3161Timestamps()) > maxTimestamps:
		return nil, fmt.Errorf("its bundle holds more than %d timestamps", maxTimestamps)
	case len(m.GetX509CertificateChain().GetCertificates()) > maxCertificates:
		return nil, fmt.Errorf("its bundle holds more than %d certificates", maxCertificates)
	}
	return pb, nil
}

// verifyBundle checks a Sigstore bundle as cosign v3 writes it: a DSSE envelope
// around an in-toto statement whose predicate says "image signature". An
// attestation by the same key says something else and does not count
// (GHSA-w6c6-c85g-mmv6 and its kin).
func (k *Keys) verifyBundle(c Candidate, image digest.Digest) (Signer, error) {
	pb, err := parseBundle(c.Payload)
	if err != nil {
		return Signer{}, err
	}
	m := pb.GetVerificationMaterial()
	switch {
	case m == nil:
		return Signer{}, errors.New("its bundle has no verification material")
	case pb.GetMessageSignature() != nil:
		return Signer{}, errors.New("its bundle signs bytes, not an image (cosign sign-blob)")
	case pb.GetDsseEnvelope().GetPayloadType() != inToto:
		return Signer{}, errors.New("its bundle holds no in-toto statement")
	case m.GetCertificate() != nil || m.GetX509CertificateChain() != nil:
		return Signer{}, errors.New("it was made with a certificate (keyless), and this authority trusts keys")
	}
	// An authority of keys ignores log entries and timestamps: their
	// signatures are not even parsed.
	m.TlogEntries, m.TimestampVerificationData = nil, nil
	b, err := bundle.NewBundle(pb)
	if err != nil {
		return Signer{}, errors.New("its bundle is incomplete or of an unknown version")
	}
	who := &anyKey{keys: k}
	trusted := root.NewExpiringKey(who, time.Time{}, time.Time{})
	material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return trusted, nil })
	verifier, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps())
	if err != nil {
		return Signer{}, fmt.Errorf("it cannot be verified: %w", err)
	}
	raw, err := hex.DecodeString(image.Encoded())
	if err != nil {
		return Signer{}, errors.New("the image's digest is not hex")
	}
	result, err := verifier.Verify(b, verify.NewPolicy(verify.WithArtifactDigest(image.Algorithm().String(), raw), verify.WithKey()))
	if err != nil {
		if who.who.ID == "" {
			return Signer{}, errOtherKey
		}
		return Signer{}, errors.New("its statement is not about this image")
	}
	if got := result.Statement.GetPredicateType(); got != signPredicate {
		return Signer{}, fmt.Errorf("it is an attestation (%.80q), not a signature", got)
	}
	signer := Signer{KeyID: who.who.ID, KeySource: who.who.Source, Annotations: map[string]string{}}
	named := false
	for _, subject := range result.Statement.GetSubject() {
		if subject.GetDigest()[image.Algorithm().String()] != image.Encoded() { // exactly: sigstore-go takes upper case for lower
			continue
		}
		named = true
		for name, value := range subject.GetAnnotations().GetFields() {
			if text, ok := value.GetKind().(*structpb.Value_StringValue); ok {
				signer.Annotations[name] = text.StringValue
			}
		}
	}
	if !named {
		return Signer{}, errors.New("its statement is not about this image")
	}
	return signer, nil
}
