package sigs

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

// statement is an in-toto statement, as far as verification reads it
// (in-toto attestation framework, spec v1 and v0.1).
type statement struct {
	Type          string `json:"_type"`
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Name        string            `json:"name"`
		Digest      map[string]string `json:"digest"`
		Annotations map[string]any    `json:"annotations"`
	} `json:"subject"`
}

// maxSubjects bounds a statement's subjects: one build attests to few images.
const maxSubjects = 1024

// parseStatement reads a statement strictly.
func parseStatement(payload []byte) (*statement, error) {
	if err := oci.CheckStrict(payload, maxStatementDepth, maxAttestationTokens); err != nil {
		return nil, fmt.Errorf("its statement is %w", err)
	}
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return nil, errors.New("its payload is no in-toto statement")
	}
	switch s.Type {
	case "https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1":
	default:
		return nil, fmt.Errorf("its payload is no in-toto statement but %.80q", s.Type)
	}
	if len(s.Subject) > maxSubjects {
		return nil, fmt.Errorf("its statement has more than %d subjects", maxSubjects)
	}
	return &s, nil
}

// about returns the signed annotations of the subject that is image, exactly;
// ok is false when none is.
func (s *statement) about(image digest.Digest) (annotations map[string]string, ok bool) {
	annotations = map[string]string{}
	for _, subject := range s.Subject {
		if subject.Digest[image.Algorithm().String()] != image.Encoded() { // exactly: upper case is another spelling
			continue
		}
		ok = true
		for name, value := range subject.Annotations {
			if text, isText := value.(string); isText {
				annotations[name] = text
			}
		}
	}
	return annotations, ok
}
