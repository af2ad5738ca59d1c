package sigs

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/pullgate/pullgate/verify/oci"

	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"

	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

// simpleSigning is the payload of a legacy signature (cosign SIGNATURE_SPEC,
// after containers/image's simple signing).
type simpleSigning struct {
	Critical *struct {
		Identity struct {
			DockerReference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

// parsePayload reads a simple-signing payload strictly and checks that it is
// an image signature's. The docker-reference is not compared: a signature is
// good in every repository whose policy trusts its signer.
func parsePayload(b []byte) (simpleSigning, error) {
	var p simpleSigning
	if err := oci.CheckStrict(b, maxDepth, maxTokens); err != nil {
		return p, fmt.Errorf("its payload is %w", err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, errors.New("its payload is no simple-signing document")
	}
	if p.Critical == nil || p.Critical.Type != payloadType {
		return p, fmt.Errorf("its payload's type is not %q", payloadType)
	}
	return p, nil
}

func (p simpleSigning) annotations() map[string]string {
	annotations := map[string]string{}
	for name, value := range p.Optional {
		if text, ok := value.(string); ok {
			annotations[name] = text
		}
	}
	return annotations
}

// openLegacy takes a simple-signing signature apart, whose parts are its
// layer's annotations.
func openLegacy(c Candidate) (*entity, error) {
	text := c.Annotations[AnnotationSignature]
	if text == "" || len(text) > maxSignatureText {
		return nil, errors.New("its signature annotation is missing or too long")
	}
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("its signature annotation is not base64")
	}
	return &entity{
		version:     "v0.1",
		payload:     c.Payload,
		signature:   sig,
		annotations: c.Annotations,
		certified:   c.Annotations[annotationCertificate] != "",
	}, nil
}

// openEnvelope takes a legacy attestation apart: a DSSE envelope as the layer,
// its evidence in the annotations.
func openEnvelope(c Candidate) (*entity, error) {
	if err := oci.CheckStrict(c.Payload, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("the envelope is %w", err)
	}
	var envelope struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	}
	switch err := json.Unmarshal(c.Payload, &envelope); {
	case err != nil:
		return nil, errors.New("it is no DSSE envelope")
	case envelope.PayloadType != inToto:
		return nil, errors.New("its envelope holds no in-toto statement")
	case len(envelope.Signatures) != 1:
		return nil, errors.New("its envelope does not hold exactly one signature")
	case len(envelope.Signatures[0].Sig) > maxSignature:
		return nil, errors.New("its signature is longer than any is")
	}
	return &entity{
		version:     "v0.1",
		envelope:    true,
		payload:     envelope.Payload,
		signature:   envelope.Signatures[0].Sig,
		annotations: c.Annotations,
		certified:   c.Annotations[annotationCertificate] != "",
	}, nil
}

// annotated reads the evidence that cosign v1 and v2 put into annotations.
func (e *entity) annotated() error {
	annotations := e.annotations
	for _, name := range []string{annotationCertificate, annotationChain, annotationLogEntry, annotationTimestamp} {
		if len(annotations[name]) > maxAnnotation {
			return fmt.Errorf("its annotation %s is larger than %d KiB", name, maxAnnotation>>10)
		}
	}
	if text := annotations[annotationCertificate]; text != "" {
		leaf, err := pemCertificates(text)
		if err != nil || len(leaf) != 1 {
			return errors.New("its certificate annotation is not one PEM certificate")
		}
		chain, err := pemCertificates(annotations[annotationChain])
		if err != nil {
			return errors.New("its chain annotation is not PEM certificates")
		}
		e.certificates = append(leaf, chain...)
	}
	if text := annotations[annotationLogEntry]; text != "" {
		entry, err := logEntryOf([]byte(text))
		if err != nil {
			return err
		}
		e.logEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if text := annotations[annotationTimestamp]; text != "" {
		var stamp struct {
			Token []byte `json:"SignedRFC3161Timestamp"`
		}
		if err := oci.CheckUnique([]byte(text), maxDepth, maxTokens); err != nil || json.Unmarshal([]byte(text), &stamp) != nil {
			return errors.New("its timestamp annotation cannot be read")
		}
		e.stamps = [][]byte{stamp.Token}
	}
	return nil
}

// logEntryOf reads a Rekor v1 entry as cosign's annotation holds it.
func logEntryOf(text []byte) (*protorekor.TransparencyLogEntry, error) {
	malformed := errors.New("its log entry annotation cannot be read")
	if oci.CheckUnique(text, maxDepth, maxTokens) != nil {
		return nil, malformed
	}
	var entry struct {
		Promise []byte `json:"SignedEntryTimestamp"`
		Payload struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		} `json:"Payload"`
	}
	if json.Unmarshal(text, &entry) != nil {
		return nil, malformed
	}
	id, err := hex.DecodeString(entry.Payload.LogID)
	if err != nil {
		return nil, malformed
	}
	var kind struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	if oci.CheckUnique(entry.Payload.Body, maxDepth, maxTokens) != nil || json.Unmarshal(entry.Payload.Body, &kind) != nil {
		return nil, malformed
	}
	return &protorekor.TransparencyLogEntry{
		LogIndex:          entry.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		IntegratedTime:    entry.Payload.IntegratedTime,
		KindVersion:       &protorekor.KindVersion{Kind: kind.Kind, Version: kind.Version},
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: entry.Promise},
		CanonicalizedBody: entry.Payload.Body,
	}, nil
}

func pemCertificates(text string) ([][]byte, error) {
	rest := []byte(text)
	var list [][]byte
	for len(bytes.TrimSpace(rest)) > 0 {
		block, more := pem.Decode(rest)
		if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE") || len(list) > maxCertificates {
			return nil, errors.New("not PEM certificates")
		}
		list, rest = append(list, block.Bytes), more
	}
	return list, nil
}
