package sigs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

// Blob is a descriptor as a signature artifact lists it.
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

// Config media types that a signature artifact may have.
const (
	configEmpty = "application/vnd.oci.empty.v1+json"
	configImage = "application/vnd.oci.image.config.v1+json"
	// configDocker is configImage for registries that take Docker's media types
	// alone (COSIGN_DOCKER_MEDIA_TYPES).
	configDocker = "application/vnd.docker.container.image.v1+json"
)

// ParseArtifact reports whether a manifest, by its labels alone, is a signature
// artifact. Labels lie: CheckConfig and CheckLayer must agree, blob by blob,
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
	case configEmpty, configImage, configDocker, ArtifactTypeSignature:
	default:
		return nil, false
	}
	for _, l := range m.Layers {
		if KindOf(l.MediaType) == 0 {
			return nil, false
		}
	}

	a := &Artifact{Config: *m.Config, Layers: m.Layers}
	if m.Subject != nil {
		a.Subject = m.Subject.Digest
	}
	return a, true
}

// CheckConfig checks an artifact's config blob: empty, or the image config
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
	if json.Unmarshal(config, &c) != nil {
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
	f := formatOf(KindOf(l.MediaType))
	if f == nil {
		return fmt.Errorf("%q is no signature's media type", l.MediaType)
	}

	named, err := f.subjects(blob)
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
// unpack a layer whatever its media type says. A header is one to them by its
// checksum alone: GNU tar unpacks what Go's reader refuses, for a mode or a time
// that is no number.
func isTar(b []byte) bool {
	for ; len(b) >= tarBlock; b = b[tarBlock:] {
		if isTarHeader(b[:tarBlock]) {
			return true
		}
	}
	return false
}

const (
	tarBlock       = 512
	tarChecksum    = 148 // where it stands in a header
	tarChecksumEnd = 156
)

// isTarHeader reports whether a block's checksum is right. It is the sum of the
// block's bytes, unsigned or, by some old programs, signed, with blanks for the
// checksum itself.
func isTarHeader(block []byte) bool {
	var unsigned, signed int64
	for _, c := range block {
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	field := block[tarChecksum:tarChecksumEnd]
	for _, c := range field {
		unsigned += ' ' - int64(c)
		signed += ' ' - int64(int8(c))
	}

	return slices.ContainsFunc(tarNumbers(field), func(n int64) bool { return n == unsigned || n == signed })
}

// tarNumbers are the numbers that a header's field may be read as, whatever
// stands behind them: in octal, and in the base 64 of an old GNU tar.
func tarNumbers(field []byte) []int64 {
	const octal = "01234567"
	const base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	number := func(text []byte, digits string) (n int64) {
		for _, c := range text {
			digit := strings.IndexByte(digits, c)
			if digit < 0 {
				break
			}
			n = n*int64(len(digits)) + int64(digit)
		}
		return n
	}

	text := bytes.TrimLeft(field, " \t\n\v\f\r\x00")
	list := []int64{number(text, octal)}
	if len(text) > 0 && text[0] == '+' {
		list = append(list, number(text[1:], base64))
	}
	return list
}
