// Package oci is the bytes at the bottom: manifests, digests, strict JSON, and
// what a registry answers. It parses and measures; it must not know policies,
// signatures or networks, and imports nothing of this program.
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// MaxManifestDepth bounds how deep the JSON of a manifest is nested.
	MaxManifestDepth  = 16
	maxManifestTokens = 400_000
)

// ParseManifest classifies manifest bytes. It refuses what is ambiguous: both
// kinds at once (GHSA-qq97-vm5h-rrhg), duplicate keys or keys in another case, a
// media type that contradicts the response's, schema 1, and more than limit
// descriptors. Errors wrap ErrManifest.
func ParseManifest(b []byte, contentType string, limit int) (Structure, error) {
	if err := CheckStrict(b, MaxManifestDepth, maxManifestTokens); err != nil {
		return Structure{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	var m document
	if json.Unmarshal(b, &m) != nil { // its error would quote the bytes at length
		return Structure{}, fmt.Errorf("%w: a field is of the wrong type", ErrManifest)
	}

	mediaType := m.MediaType
	if mediaType == "" {
		mediaType = contentType
	}
	if err := m.check(mediaType, contentType); err != nil {
		return Structure{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}

	s := Structure{Kind: kindOf(mediaType), MediaType: mediaType, Inline: m.Subject.Data != nil}
	if err := s.list(&m, limit); err != nil {
		return Structure{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return s, nil
}

// document is a manifest as far as its kind is told by it.
type document struct {
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

const schema1 = "application/vnd.docker.distribution.manifest.v1+" // json and prettyjws

// check refuses a document that two readers could take for different things.
func (m *document) check(mediaType, contentType string) error {
	kind := kindOf(mediaType)
	switch {
	case m.SchemaVersion == 1, m.FSLayers != nil, m.History != nil, strings.HasPrefix(contentType, schema1):
		return errors.New("Docker schema 1 is not supported: push the image again with a current client")
	case m.SchemaVersion != 2:
		return errors.New("schemaVersion is not 2")
	case m.Manifests != nil && (m.Config != nil || m.Layers != nil || m.Blobs != nil):
		return errors.New("it is an index and an image at once")
	case kind == 0:
		return fmt.Errorf("unknown media type %.80q", mediaType)
	case m.MediaType != "" && kindOf(contentType) != 0 && m.MediaType != contentType:
		return fmt.Errorf("it says it is %.80q, the registry says %.80q", m.MediaType, contentType)
	case kind == Index && m.Manifests == nil, kind == Image && (m.Config == nil || m.Layers == nil):
		return fmt.Errorf("its content is not what its media type %.80q says", mediaType)
	}
	return nil
}

// entry is one part that a manifest lists.
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
	return e.MediaType != "" && kindOf(e.MediaType) == 0 && !strings.HasPrefix(e.MediaType, schema1)
}

// list reads the parts that m lists, at most limit besides an image's config.
func (s *Structure) list(m *document, limit int) error {
	raw := m.Layers
	if s.Kind == Index {
		raw = m.Manifests
	}
	var parts []entry
	if json.Unmarshal(*raw, &parts) != nil {
		return errors.New("a descriptor's field is of the wrong type")
	}
	if len(parts) > limit {
		return fmt.Errorf("it lists %d parts, more than the limit of %d (limits.descriptors)", len(parts), limit)
	}

	if s.Kind == Image {
		config := entry{Digest: m.Config.Digest, Size: m.Config.Size}
		parts = append([]entry{config}, parts...)
	}
	for _, p := range parts {
		if err := CheckDigest(p.Digest); err != nil {
			return err
		}

		s.Platforms = s.Platforms || p.Platform != nil
		s.Inline = s.Inline || p.Data != nil
		if s.Kind == Index && !p.isBlob() {
			s.Manifests = append(s.Manifests, p.Digest)
			continue
		}
		s.Blobs, s.Sizes = append(s.Blobs, p.Digest), append(s.Sizes, p.Size)
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
