package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Kind is what a manifest is, decided by its content and its media type together.
type Kind int

const (
	// Image lists a config and layers: an image or any other OCI artifact.
	Image Kind = iota + 1
	// Index lists manifests.
	Index
)

// Structure is what an admitted manifest lists. Only these lists admit parts;
// `subject` and `urls` are never followed.
type Structure struct {
	Kind      Kind
	MediaType string
	Manifests []digest.Digest // entries of an index
	Blobs     []digest.Digest // of an image, config first; of an index, the entries that are no manifests
	Sizes     []int64         // of Blobs, as listed
	Inline    bool            // a part's content stands in the manifest itself (data)
	Platforms bool            // an entry of an index names a platform: it is there to be run
}

// ErrManifest is wrapped by every reason for which a manifest is not one the
// gate can judge (400 MANIFEST_INVALID).
var ErrManifest = errors.New("invalid manifest")

const (
	MaxManifestDepth  = 16
	maxManifestTokens = 400_000
)

// ParseManifest classifies manifest bytes. An ambiguous one is refused: both
// kinds at once (GHSA-qq97-vm5h-rrhg), duplicate or case-variant keys, a media
// type that contradicts the response's, schema 1, more than max descriptors.
func ParseManifest(b []byte, contentType string, max int) (Structure, error) {
	if err := CheckStrict(b, MaxManifestDepth, maxManifestTokens); err != nil {
		return Structure{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	var m struct {
		SchemaVersion int              `json:"schemaVersion"`
		MediaType     string           `json:"mediaType"`
		Config        *Descriptor      `json:"config"`
		Layers        *json.RawMessage `json:"layers"`
		Blobs         *json.RawMessage `json:"blobs"`
		FSLayers      *json.RawMessage `json:"fsLayers"`
		History       *json.RawMessage `json:"history"`
		Manifests     *json.RawMessage `json:"manifests"`
		Subject       struct {
			Data *json.RawMessage `json:"data"`
		} `json:"subject"`
	}
	if json.Unmarshal(b, &m) != nil { // its error would quote the bytes at length
		return Structure{}, fmt.Errorf("%w: a field is of the wrong type", ErrManifest)
	}
	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = contentType
	}
	kind := kindOf(mediaType)
	switch {
	case m.SchemaVersion == 1 || m.FSLayers != nil || m.History != nil || strings.HasPrefix(contentType, "application/vnd.docker.distribution.manifest.v1+"):
		return Structure{}, fmt.Errorf(
			"%w: Docker schema 1 is not supported: push the image again with a current client",
			ErrManifest,
		)
	case m.SchemaVersion != 2:
		return Structure{}, fmt.Errorf("%w: schemaVersion is not 2", ErrManifest)
	case m.Manifests != nil && (m.Config != nil || m.Layers != nil || m.Blobs != nil):
		return Structure{}, fmt.Errorf("%w: it is an index and an image at once", ErrManifest)
	case kind == 0:
		return Structure{}, fmt.Errorf("%w: unknown media type %.80q", ErrManifest, mediaType)
	case m.MediaType != "" && kindOf(contentType) != 0 && m.MediaType != contentType:
		return Structure{}, fmt.Errorf(
			"%w: it says it is %.80q, the registry says %.80q",
			ErrManifest,
			m.MediaType,
			contentType,
		)
	case kind == Index && m.Manifests == nil, kind == Image && (m.Config == nil || m.Layers == nil):
		return Structure{}, fmt.Errorf("%w: its content is not what its media type %.80q says", ErrManifest, mediaType)
	}
	s := Structure{Kind: kind, MediaType: mediaType, Inline: m.Subject.Data != nil}
	raw := m.Layers
	if kind == Index {
		raw = m.Manifests
	}
	var list []entry
	if json.Unmarshal(*raw, &list) != nil {
		return Structure{}, fmt.Errorf("%w: a descriptor's field is of the wrong type", ErrManifest)
	}
	if len(list) > max {
		return Structure{}, fmt.Errorf(
			"%w: it lists %d parts, more than the limit of %d (limits.descriptors)",
			ErrManifest,
			len(list),
			max,
		)
	}

	if kind == Image {
		list = slices.Insert(list, 0, entry{Digest: m.Config.Digest, Size: m.Config.Size})
	}
	if err := s.add(list); err != nil {
		return Structure{}, err
	}
	return s, nil
}

// entry is a descriptor in a manifest's list.
type entry struct {
	MediaType string           `json:"mediaType"`
	Digest    digest.Digest    `json:"digest"`
	Size      int64            `json:"size"`
	Platform  *json.RawMessage `json:"platform"`
	Data      *json.RawMessage `json:"data"`
}

// isBlob reports whether an entry of an index is no manifest. BuildKit's cache
// and containerd's checkpoints are indexes of layers, which clients ask for as
// blobs (image spec, "Image Index": other media types must not be an error).
func (e entry) isBlob() bool {
	if e.MediaType == "" || kindOf(e.MediaType) != 0 {
		return false
	}
	return !strings.HasPrefix(e.MediaType, "application/vnd.docker.distribution.manifest.v1+")
}

// add lists the parts of a manifest of s's kind, each under what it is.
func (s *Structure) add(list []entry) error {
	for _, e := range list {
		if err := CheckDigest(e.Digest); err != nil {
			return fmt.Errorf("%w: %w", ErrManifest, err)
		}

		s.Platforms = s.Platforms || e.Platform != nil
		s.Inline = s.Inline || e.Data != nil
		if s.Kind == Index && !e.isBlob() {
			s.Manifests = append(s.Manifests, e.Digest)
			continue
		}
		s.Blobs, s.Sizes = append(s.Blobs, e.Digest), append(s.Sizes, e.Size)
	}
	return nil
}

// ErrDigest is wrapped by CheckDigest's errors (400 DIGEST_INVALID).
var ErrDigest = errors.New("invalid digest")

// CheckDigest accepts sha256 and sha512 digests in canonical form and nothing
// else (CVE-2024-3727: digests are never trusted as path parts unchecked).
func CheckDigest(d digest.Digest) error {
	algorithm, hex, ok := strings.Cut(string(d), ":")
	if !ok {
		return fmt.Errorf("%w: not algorithm:hex in lower case", ErrDigest)
	}
	length := 64
	switch digest.Algorithm(algorithm) {
	case digest.SHA256:
	case digest.SHA512:
		length = 128
	default:
		return fmt.Errorf("%w: algorithm %.20q is not sha256 or sha512", ErrDigest, algorithm)
	}
	if len(hex) != length || strings.Trim(hex, "0123456789abcdef") != "" {
		return fmt.Errorf("%w: not %d hex digits in lower case", ErrDigest, length)
	}
	return nil
}

func kindOf(mediaType string) Kind {
	switch mediaType {
	case "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json":
		return Image
	case "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json":
		return Index
	}
	return 0
}
