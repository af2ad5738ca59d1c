package sigs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pullgate/pullgate/verify/oci"
)

// dsseEnvelope is a DSSE envelope (secure-systems-lab/dsse, envelope.md).
type dsseEnvelope struct {
	PayloadType string `json:"payloadType"`
	Payload     []byte `json:"payload"`
	Signatures  []struct {
		Sig   string `json:"sig"` // base64
		KeyID string `json:"keyid"`
	} `json:"signatures"`
}

// parseEnvelope reads an envelope around an in-toto statement strictly. Each of
// more may ask more of the decoder.
func parseEnvelope(b []byte, more ...func(*json.Decoder)) (*dsseEnvelope, error) {
	if err := oci.CheckStrict(b, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("the envelope is %w", err)
	}

	decoder := json.NewDecoder(bytes.NewReader(b)) // of one value: CheckStrict saw to that
	for _, demand := range more {
		demand(decoder)
	}
	var e dsseEnvelope
	if decoder.Decode(&e) != nil {
		return nil, errors.New("it is no DSSE envelope")
	}

	if e.PayloadType != inToto {
		return nil, errors.New("its envelope holds no in-toto statement")
	}
	return &e, nil
}

// openEnvelope takes a legacy attestation apart: a DSSE envelope as the layer,
// its evidence in the annotations. Fields that it does not know are ignored, as
// DSSE demands: some builders add a certificate to each signature.
func openEnvelope(c Candidate) (content, error) {
	e, err := parseEnvelope(c.Payload)
	if err != nil {
		return nil, err
	}

	if len(e.Signatures) != 1 {
		return nil, errors.New("its envelope does not hold exactly one signature")
	}
	signature, err := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	switch {
	case err != nil:
		return nil, errors.New("it is no DSSE envelope")
	case len(signature) > maxSignature:
		return nil, errors.New("its signature is longer than any is")
	}

	return &entity{
		version:     "v0.1",
		envelope:    true,
		payload:     e.Payload,
		signature:   signature,
		annotations: c.Annotations,
		certified:   c.Annotations[annotationCertificate] != "",
	}, nil
}

// envelopeSubjects lists the digests that a DSSE envelope's statement names. An
// envelope passes to clients as a whole, so a field that is not DSSE's, which
// could hold anything, is refused here.
func envelopeSubjects(blob []byte) ([]string, error) {
	e, err := parseEnvelope(blob, (*json.Decoder).DisallowUnknownFields)
	if err != nil {
		return nil, err
	}
	if len(e.Signatures) == 0 {
		return nil, errors.New("its envelope holds no signature")
	}

	return statementSubjects(e.Payload)
}
