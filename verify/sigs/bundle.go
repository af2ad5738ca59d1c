package sigs

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pullgate/pullgate/verify/oci"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

// openBundle takes a Sigstore bundle apart: a DSSE envelope around an in-toto
// statement. Its versions differ in what a log entry must bring and in how
// certificates come (sigstore bundle specification).
func openBundle(c Candidate) (*entity, error) {
	if err := oci.CheckStrict(c.Payload, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("the bundle is %w", err)
	}
	pb := &protobundle.Bundle{}
	if err := protojson.Unmarshal(c.Payload, pb); err != nil {
		return nil, errors.New("it is no Sigstore bundle")
	}
	m := pb.GetVerificationMaterial()
	envelope := pb.GetDsseEnvelope()
	version, err := bundleVersion(pb.GetMediaType())
	switch {
	case err != nil:
		return nil, err
	case m == nil:
		return nil, errors.New("its bundle has no verification material")
	case pb.GetMessageSignature() != nil:
		return nil, errors.New("its bundle signs bytes, not an image (cosign sign-blob)")
	case envelope.GetPayloadType() != inToto:
		return nil, errors.New("its bundle holds no in-toto statement")
	case len(envelope.GetSignatures()) != 1 || len(envelope.GetSignatures()[0].GetSig()) == 0:
		return nil, errors.New("its bundle does not hold exactly one signature")
	case len(envelope.GetSignatures()[0].GetSig()) > maxSignature:
		return nil, errors.New("its signature is longer than any is")
	}
	e := &entity{
		version:    version,
		bundled:    true,
		envelope:   true,
		payload:    envelope.GetPayload(),
		signature:  envelope.GetSignatures()[0].GetSig(),
		logEntries: m.GetTlogEntries(),
	}
	for _, t := range m.GetTimestampVerificationData().GetRfc3161Timestamps() {
		e.stamps = append(e.stamps, t.GetSignedTimestamp())
	}
	switch content := m.GetContent().(type) {
	case *protobundle.VerificationMaterial_PublicKey:
	case *protobundle.VerificationMaterial_Certificate:
		e.certified, e.certificates = true, [][]byte{content.Certificate.GetRawBytes()}
	case *protobundle.VerificationMaterial_X509CertificateChain:
		e.certified = true
		for _, one := range content.X509CertificateChain.GetCertificates() {
			e.certificates = append(e.certificates, one.GetRawBytes())
		}
	default:
		return nil, errors.New("its bundle is incomplete or of an unknown version")
	}
	return e, e.count()
}

// bundleVersion reads the version in a bundle's media type, both spellings.
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
	return "", errors.New("its bundle is incomplete or of an unknown version")
}
