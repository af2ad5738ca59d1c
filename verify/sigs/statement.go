package sigs

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
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

// Attestations may be large documents; the caller has bounded their bytes. A bill
// of materials of 6 MiB, which is 8 MiB in base64, has some 600,000 tokens.
const (
	maxAttestationTokens = 1_000_000
	maxStatementDepth    = 64
)

// maxSubjects bounds a statement's subjects: one build attests to few images.
const maxSubjects = 1024

// parseStatement reads a statement strictly, of whatever version.
func parseStatement(payload []byte) (*statement, error) {
	if err := oci.CheckStrict(payload, maxStatementDepth, maxAttestationTokens); err != nil {
		return nil, fmt.Errorf("its statement is %w", err)
	}
	var s statement
	if json.Unmarshal(payload, &s) != nil {
		return nil, errors.New("its payload is no in-toto statement")
	}

	return &s, nil
}

// about returns the signed annotations of the subject that is image, exactly.
// An error means that the statement cannot count for image: none of its subjects
// is image, its version is unknown, or its subjects are too many.
func (s *statement) about(image digest.Digest) (map[string]string, error) {
	switch s.Type {
	case "https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1":
	default:
		return nil, fmt.Errorf("its payload is no in-toto statement but %.80q", s.Type)
	}
	if len(s.Subject) > maxSubjects {
		return nil, fmt.Errorf("its statement has more than %d subjects", maxSubjects)
	}

	found, annotations := false, map[string]string{}
	for _, subject := range s.Subject {
		if subject.Digest[image.Algorithm().String()] != image.Encoded() { // exactly: upper case is another spelling
			continue
		}

		found = true
		for name, value := range subject.Annotations {
			if text, ok := value.(string); ok {
				annotations[name] = text
			}
		}
	}

	if !found {
		return nil, because(reason.OtherImage, errors.New("its statement is not about this image"))
	}
	return annotations, nil
}

// statementSubjects lists the SHA-256 and SHA-512 digests that a statement
// names. It takes a later version too, and any number of subjects: clients may
// know what to do with them.
func statementSubjects(payload []byte) ([]string, error) {
	s, err := parseStatement(payload)
	if err != nil {
		return nil, err
	}
	if s.Type == "" {
		return nil, errors.New("its payload is no in-toto statement")
	}

	var named []string
	for _, subject := range s.Subject {
		for algorithm, sum := range subject.Digest {
			if algorithm == "sha256" || algorithm == "sha512" {
				named = append(named, algorithm+":"+sum)
			}
		}
	}
	return named, nil
}
