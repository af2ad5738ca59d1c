package sigs

import (
	"bytes"
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

// annotated reads the evidence that cosign v1 and v2 put into annotations.
func (e *entity) annotated() error {
	annotations := e.annotations
	for _, name := range []string{annotationCertificate, annotationChain, annotationLogEntry, annotationTimestamp} {
		if len(annotations[name]) > maxAnnotation {
			return fmt.Errorf("its annotation %s is larger than %d KiB", name, maxAnnotation>>10)
		}
	}

	if text := annotations[annotationCertificate]; text != "" {
		own, err := pemCertificates(text) // the leaf, and often its chain
		if err != nil || len(own) == 0 {
			return errors.New("its certificate annotation is not PEM certificates")
		}
		chain, err := pemCertificates(annotations[annotationChain])
		if err != nil {
			return errors.New("its chain annotation is not PEM certificates")
		}
		e.certificates = append(own, chain...)
	}

	if text := annotations[annotationLogEntry]; text != "" {
		entry, err := logEntryOf([]byte(text))
		if err != nil {
			return err
		}
		e.logEntries = []*protorekor.TransparencyLogEntry{entry}
	}

	if text := annotations[annotationTimestamp]; text != "" {
		stamp, err := stampOf([]byte(text))
		if err != nil {
			return err
		}
		e.stamps = [][]byte{stamp}
	}
	return nil
}

// pemCertificates returns the DER of each certificate in text.
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

// logEntryOf reads a Rekor v1 entry as cosign's annotation holds it.
func logEntryOf(text []byte) (*protorekor.TransparencyLogEntry, error) {
	var entry struct {
		Promise []byte `json:"SignedEntryTimestamp"`
		Payload struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		} `json:"Payload"`
	}
	if !readUnique(text, &entry) {
		return nil, errLogEntry
	}
	id, err := hex.DecodeString(entry.Payload.LogID)
	if err != nil {
		return nil, errLogEntry
	}

	var body struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
	}
	if !readUnique(entry.Payload.Body, &body) {
		return nil, errLogEntry
	}

	return &protorekor.TransparencyLogEntry{
		LogIndex:          entry.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		IntegratedTime:    entry.Payload.IntegratedTime,
		KindVersion:       &protorekor.KindVersion{Kind: body.Kind, Version: body.Version},
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: entry.Promise},
		CanonicalizedBody: entry.Payload.Body,
	}, nil
}

var errLogEntry = errors.New("its log entry annotation cannot be read")

// stampOf reads an RFC 3161 response as cosign's annotation holds it.
func stampOf(text []byte) ([]byte, error) {
	var stamp struct {
		Response []byte `json:"SignedRFC3161Timestamp"`
	}
	if !readUnique(text, &stamp) {
		return nil, errors.New("its timestamp annotation cannot be read")
	}

	return stamp.Response, nil
}

// readUnique reads JSON of another format, whose names are not cosign's, and
// reports whether it could.
func readUnique(text []byte, v any) bool {
	return oci.CheckUnique(text, maxDepth, maxTokens) == nil && json.Unmarshal(text, v) == nil
}
