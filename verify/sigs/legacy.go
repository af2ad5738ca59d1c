package sigs

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
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
// an image signature's.
func parsePayload(b []byte) (simpleSigning, error) {
	var p simpleSigning
	if err := CheckStrict(b, maxDepth, maxTokens); err != nil {
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

// verifyLegacy checks a simple-signing signature. The docker-reference is not
// compared: a signature is good in every repository whose policy trusts its key.
func (k *Keys) verifyLegacy(c Candidate, image digest.Digest) (Signer, error) {
	text := c.Annotations[AnnotationSignature]
	if text == "" || len(text) > maxSignatureText {
		return Signer{}, errors.New("its signature annotation is missing or too long")
	}
	sig, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return Signer{}, errors.New("its signature annotation is not base64")
	}
	p, err := parsePayload(c.Payload)
	if err != nil {
		return Signer{}, err
	}
	if !names(p.Critical.Image.Digest, image) {
		return Signer{}, fmt.Errorf("it is for another image, %.80q", p.Critical.Image.Digest)
	}
	by, err := k.by(sig, c.Payload)
	if err != nil {
		if c.Annotations[annotationCertificate] != "" {
			return Signer{}, errors.New("it was made with a certificate (keyless), and this authority trusts keys")
		}
		return Signer{}, err
	}
	signer := Signer{KeyID: by.ID, KeySource: by.Source, Annotations: map[string]string{}}
	for name, value := range p.Optional {
		if s, ok := value.(string); ok {
			signer.Annotations[name] = s
		}
	}
	return signer, nil
}
