package sigs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pullgate/pullgate/verify/oci"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

var errBundleVersion = errors.New("its bundle is incomplete or of an unknown version")

// parseBundle reads a Sigstore bundle strictly, of a known version or a later
// one (sigstore bundle specification). protojson refuses unknown fields.
func parseBundle(b []byte) (*protobundle.Bundle, error) {
	if err := oci.CheckStrict(b, maxDepth, maxBundleTokens); err != nil {
		return nil, fmt.Errorf("the bundle is %w", err)
	}
	pb := &protobundle.Bundle{}
	if protojson.Unmarshal(b, pb) != nil {
		return nil, errors.New("it is no Sigstore bundle")
	}

	if !IsBundle(pb.GetMediaType()) {
		return nil, errBundleVersion
	}
	if pb.GetVerificationMaterial() == nil {
		return nil, errors.New("its bundle has no verification material")
	}
	if e := pb.GetDsseEnvelope(); e != nil && e.GetPayloadType() != inToto {
		return nil, errors.New("its bundle holds no in-toto statement")
	}
	return pb, nil
}

// openBundle takes a Sigstore bundle apart: a DSSE envelope around an in-toto
// statement. Its versions differ in what a log entry must bring and in how
// certificates come, so only known ones are verified.
func openBundle(c Candidate) (content, error) {
	pb, err := parseBundle(c.Payload)
	if err != nil {
		return nil, err
	}
	version, err := bundleVersion(pb.GetMediaType())
	if err != nil {
		return nil, err
	}

	envelope := pb.GetDsseEnvelope()
	switch {
	case pb.GetMessageSignature() != nil:
		return nil, errors.New("its bundle signs bytes, not an image (cosign sign-blob)")
	case envelope == nil:
		return nil, errors.New("its bundle holds no in-toto statement")
	case len(envelope.GetSignatures()) != 1 || len(envelope.GetSignatures()[0].GetSig()) == 0:
		return nil, errors.New("its bundle does not hold exactly one signature")
	case len(envelope.GetSignatures()[0].GetSig()) > maxSignature:
		return nil, errors.New("its signature is longer than any is")
	}

	e := &entity{
		version:   version,
		bundled:   true,
		envelope:  true,
		payload:   envelope.GetPayload(),
		signature: envelope.GetSignatures()[0].GetSig(),
	}
	if err := e.attach(pb.GetVerificationMaterial()); err != nil {
		return nil, err
	}

	return e, e.count()
}

// attach takes the evidence that a bundle brings beside the signature.
func (e *entity) attach(m *protobundle.VerificationMaterial) error {
	e.logEntries = m.GetTlogEntries()
	for _, t := range m.GetTimestampVerificationData().GetRfc3161Timestamps() {
		e.stamps = append(e.stamps, t.GetSignedTimestamp())
	}

	switch signer := m.GetContent().(type) {
	case *protobundle.VerificationMaterial_PublicKey:
		e.hint = signer.PublicKey.GetHint()
	case *protobundle.VerificationMaterial_Certificate:
		e.certified = true
		e.certificates = [][]byte{signer.Certificate.GetRawBytes()}
	case *protobundle.VerificationMaterial_X509CertificateChain:
		e.certified = true
		for _, one := range signer.X509CertificateChain.GetCertificates() {
			e.certificates = append(e.certificates, one.GetRawBytes())
		}
	default:
		return errBundleVersion
	}
	return nil
}

// bundleVersion reads the version in a bundle's media type, in either spelling.
func bundleVersion(mediaType string) (string, error) {
	rest, _ := strings.CutPrefix(mediaType, bundlePrefix)
	switch rest {
	case "+json;version=0.1", ".v0.1+json":
		return "v0.1", nil
	case "+json;version=0.2", ".v0.2+json":
		return "v0.2", nil
	case "+json;version=0.3", ".v0.3+json":
		return "v0.3", nil
	}
	return "", errBundleVersion
}

// bundleSubjects lists the digests that a bundle names: its statement's, or its
// message's. A bundle of a later version, and one over bytes, may be attached to
// an image even though neither counts as the image's signature.
func bundleSubjects(blob []byte) ([]string, error) {
	pb, err := parseBundle(blob)
	if err != nil {
		return nil, err
	}

	if e := pb.GetDsseEnvelope(); e != nil {
		return statementSubjects(e.GetPayload())
	}
	if sum := pb.GetMessageSignature().GetMessageDigest().GetDigest(); len(sum) == 32 {
		return []string{digest.NewDigestFromBytes(digest.SHA256, sum).String()}, nil
	}
	return nil, errors.New("the bundle names no digest")
}
