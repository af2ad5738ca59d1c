package sigs

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pullgate/pullgate/verify/oci"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
)

// Blob is a descriptor as a signature artefact lists it.
type Blob struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
}

// Artifact is a manifest that says it holds signatures or attestations.
type Artifact struct {
	Config  Blob
	Layers  []Blob
	Subject digest.Digest // what it is attached to; empty under a .sig tag
}

// Config media types a signature artefact may have.
const (
	configEmpty = "application/vnd.oci.empty.v1+json"
	configImage = "application/vnd.oci.image.config.v1+json"
)

// ParseArtifact reports whether a manifest, by its labels alone, is a signature
// artefact. Labels lie: CheckConfig and CheckLayer must agree, blob by blob,
// before it is treated as one.
func ParseArtifact(manifest []byte) (*Artifact, bool) {
	var m struct {
		Config    *Blob            `json:"config"`
		Layers    []Blob           `json:"layers"`
		Manifests *json.RawMessage `json:"manifests"`
		Subject   *Blob            `json:"subject"`
	}
	if json.Unmarshal(manifest, &m) != nil || m.Manifests != nil || m.Config == nil || len(m.Layers) == 0 {
		return nil, false
	}
	switch m.Config.MediaType {
	case configEmpty, configImage, ArtifactTypeSignature:
	default:
		return nil, false
	}
	for _, l := range m.Layers {
		if l.MediaType != MediaTypeSimpleSigning && l.MediaType != MediaTypeDSSE && !IsBundle(l.MediaType) {
			return nil, false
		}
	}
	a := &Artifact{Config: *m.Config, Layers: m.Layers}
	if m.Subject != nil {
		a.Subject = m.Subject.Digest
	}
	return a, true
}

// CheckConfig checks an artefact's config blob: empty, or the image config
// cosign writes, which runs nothing and lists exactly these layers.
func CheckConfig(mediaType string, config []byte, layers []digest.Digest) error {
	if bytes.Equal(bytes.TrimSpace(config), []byte("{}")) {
		return nil
	}
	if mediaType == configEmpty {
		return errors.New("the empty config is not empty")
	}
	if err := oci.CheckStrict(config, maxDepth, maxTokens); err != nil {
		return fmt.Errorf("the config is %w", err)
	}
	var c struct {
		Config map[string]any `json:"config"`
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return errors.New("the config is no image config")
	}
	if len(c.Config) > 0 {
		return errors.New("the config says how to run something")
	}
	if !slices.Equal(c.RootFS.DiffIDs, layers) {
		return errors.New("the config's diff_ids are not the layers")
	}
	return nil
}

// CheckLayer checks that a blob is, from its first byte to its last, the
// signature, attestation or bundle it is listed as, and names image; or, when
// image is empty, some image.
func CheckLayer(l Blob, blob []byte, image digest.Digest) error {
	if isTar(blob) {
		return errors.New("it is a tar archive as well")
	}
	var named []string
	var err error
	switch {
	case l.MediaType == MediaTypeSimpleSigning:
		var p simpleSigning
		if p, err = parsePayload(blob); err == nil {
			named = []string{p.Critical.Image.Digest}
		}
	case l.MediaType == MediaTypeDSSE:
		named, err = envelopeSubjects(blob)
	case IsBundle(l.MediaType):
		named, err = bundleSubjects(blob)
	default:
		err = fmt.Errorf("%q is no signature's media type", l.MediaType)
	}
	if err != nil {
		return err
	}
	if len(named) == 0 || image != "" && !slices.Contains(named, image.String()) {
		return errors.New("it does not name the image it is attached to")
	}
	for _, n := range named {
		if digest.Digest(n).Validate() != nil {
			return errors.New("it names something that is no digest")
		}
	}
	return nil
}

// isTar reports whether some block of b is a tar header: a document can be an
// archive too (a V7 header needs no byte that JSON forbids), and some clients
// unpack a layer whatever its media type says.
func isTar(b []byte) bool {
	for ; len(b) >= tarBlock; b = b[tarBlock:] {
		if _, err := tar.NewReader(bytes.NewReader(b[:tarBlock])).Next(); !errors.Is(err, tar.ErrHeader) {
			return true
		}
	}
	return false
}

const tarBlock = 512

// Attestations may be large documents; the caller has bounded their bytes. A bill
// of materials of 6 MiB, which is 8 MiB in base64, has some 600,000 tokens.
const (
	maxAttestationTokens = 1_000_000
	maxStatementDepth    = 64
)

// envelopeSubjects reads a DSSE envelope (secure-systems-lab/dsse, envelope.md)
// around an in-toto statement.
func envelopeSubjects(b []byte) ([]string, error) {
	if err := oci.CheckStrict(b, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("the envelope is %w", err)
	}
	var e struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
		Signatures  []struct {
			Sig   string `json:"sig"`
			KeyID string `json:"keyid"`
		} `json:"signatures"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || len(e.Signatures) == 0 {
		return nil, errors.New("it is no DSSE envelope")
	}
	return statementSubjects(e.PayloadType, e.Payload)
}

func bundleSubjects(b []byte) ([]string, error) {
	if err := oci.CheckStrict(b, maxDepth, maxTokens); err != nil {
		return nil, fmt.Errorf("the bundle is %w", err)
	}
	pb := &protobundle.Bundle{}
	if err := protojson.Unmarshal(b, pb); err != nil || pb.GetVerificationMaterial() == nil {
		return nil, errors.New("it is no Sigstore bundle")
	}
	if !IsBundle(pb.GetMediaType()) {
		return nil, errors.New("it does not say that it is a Sigstore bundle")
	}
	if e := pb.GetDsseEnvelope(); e != nil {
		return statementSubjects(e.GetPayloadType(), e.GetPayload())
	}
	if sum := pb.GetMessageSignature().GetMessageDigest().GetDigest(); len(sum) == 32 {
		return []string{digest.NewDigestFromBytes(digest.SHA256, sum).String()}, nil
	}
	return nil, errors.New("the bundle names no digest")
}

func statementSubjects(payloadType string, payload []byte) ([]string, error) {
	if payloadType != inToto {
		return nil, errors.New("its payload is no in-toto statement")
	}
	if err := oci.CheckStrict(payload, maxStatementDepth, maxAttestationTokens); err != nil {
		return nil, fmt.Errorf("the statement is %w", err)
	}
	var s struct {
		Type    string `json:"_type"`
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(payload, &s); err != nil || s.Type == "" {
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
