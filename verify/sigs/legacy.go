package sigs

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pullgate/pullgate/verify/oci"
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
func parsePayload(b []byte) (*simpleSigning, error) {
	if err := oci.CheckStrict(b, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("its payload is %w", err)
	}
	var p simpleSigning
	if json.Unmarshal(b, &p) != nil {
		return nil, errors.New("its payload is no simple-signing document")
	}

	if p.Critical == nil || p.Critical.Type != payloadType {
		return nil, fmt.Errorf("its payload's type is not %q", payloadType)
	}
	return &p, nil
}

func (p *simpleSigning) annotations() map[string]string {
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
func openLegacy(c Candidate) (content, error) {
	text := c.Annotations[AnnotationSignature]
	if text == "" || len(text) > maxSignatureText {
		return nil, errors.New("its signature annotation is missing or too long")
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("its signature annotation is not base64")
	}

	return &entity{
		version:     "v0.1",
		payload:     c.Payload,
		signature:   signature,
		annotations: c.Annotations,
		certified:   c.Annotations[annotationCertificate] != "",
	}, nil
}

// payloadSubjects lists the one digest that a simple-signing payload names.
func payloadSubjects(blob []byte) ([]string, error) {
	p, err := parsePayload(blob)
	if err != nil {
		return nil, err
	}

	return []string{p.Critical.Image.Digest}, nil
}
