package hostile

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Media types of what is pushed.
const (
	ImageType         = "application/vnd.oci.image.manifest.v1+json"
	IndexType         = "application/vnd.oci.image.index.v1+json"
	ConfigType        = "application/vnd.oci.image.config.v1+json"
	LayerType         = "application/vnd.oci.image.layer.v1.tar+gzip"
	EmptyType         = "application/vnd.oci.empty.v1+json"
	SimpleSigningType = "application/vnd.dev.cosign.simplesigning.v1+json"
	SignatureType     = "application/vnd.dev.cosign.artifact.sig.v1+json"
)

const signatureAnnotation = "dev.cosignproject.cosign/signature"

// Image is a pushed image and its parts.
type Image struct {
	Digest   digest.Digest
	Manifest []byte
	Config   digest.Digest
	Layers   []digest.Digest
}

// Descriptor is an entry of a manifest or an index. Data and URLs are there to
// be distrusted.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
	Data         []byte            `json:"data,omitempty"`
	URLs         []string          `json:"urls,omitempty"`
}

// Platform of an index's entry.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
}

// Manifest is an image manifest, or an artifact's.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        Descriptor        `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// Index is an image index.
type Index struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Manifests     []Descriptor      `json:"manifests"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// PushBlob stores a blob.
func (r *Registry) PushBlob(repo string, body []byte) digest.Digest {
	d := digest.FromBytes(body)
	r.PutBlob(repo, d, body)
	return d
}

// PutBlob stores bytes under any digest, theirs or not.
func (r *Registry) PutBlob(repo string, d digest.Digest, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blobs[repo+"@"+d.String()] = body
}

// PushRaw stores manifest bytes, under their digests and, unless it is empty,
// a tag.
func (r *Registry) PushRaw(repo, tag, mediaType string, body []byte) digest.Digest {
	d := digest.FromBytes(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range []digest.Digest{d, digest.SHA512.FromBytes(body)} {
		r.manifests[repo+"@"+key.String()] = manifest{mediaType, body}
	}
	if tag != "" {
		r.tagged[repo+":"+tag] = d.String()
		if !slices.Contains(r.tags[repo], tag) {
			r.tags[repo] = append(r.tags[repo], tag)
		}
	}
	return d
}

// PushImage makes an image of its own with the layers given; with none, of two
// random ones.
func (r *Registry) PushImage(repo, tag string, layers ...[]byte) Image {
	if len(layers) == 0 {
		layers = [][]byte{[]byte("layer one " + rand.Text()), []byte(strings.Repeat("layer two "+rand.Text(), 100))}
	}
	m := Manifest{SchemaVersion: 2, MediaType: ImageType}
	image := Image{}
	var diffs []digest.Digest
	for _, l := range layers {
		d := r.PushBlob(repo, l)
		diffs = append(diffs, d)
		m.Layers = append(m.Layers, Descriptor{MediaType: LayerType, Digest: d, Size: len(l)})
	}
	config := encode(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"config":       map[string]any{"Cmd": []string{"/run"}, "Labels": map[string]string{"id": rand.Text()}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": diffs},
	})
	image.Layers, image.Config = diffs, r.PushBlob(repo, config)
	m.Config = Descriptor{MediaType: ConfigType, Digest: image.Config, Size: len(config)}
	image.Manifest = encode(m)
	image.Digest = r.PushRaw(repo, tag, ImageType, image.Manifest)
	return image
}

// PushIndex makes an index of manifests pushed before, each for a platform of
// its own.
func (r *Registry) PushIndex(repo, tag string, children ...digest.Digest) digest.Digest {
	return r.pushIndex(repo, tag, true, children)
}

// PushList makes an index whose entries have no platform, as the referrers
// fallback tag's.
func (r *Registry) PushList(repo, tag string, children ...digest.Digest) digest.Digest {
	return r.pushIndex(repo, tag, false, children)
}

func (r *Registry) pushIndex(repo, tag string, platforms bool, children []digest.Digest) digest.Digest {
	index := Index{
		SchemaVersion: 2,
		MediaType:     IndexType,
		Manifests:     []Descriptor{},
		Annotations:   map[string]string{"id": rand.Text()},
	}
	for i, d := range children {
		r.mu.Lock()
		m := r.manifests[repo+"@"+d.String()]
		r.mu.Unlock()
		entry := Descriptor{MediaType: m.mediaType, Digest: d, Size: len(m.body)}
		if platforms {
			entry.Platform = &Platform{OS: "linux", Architecture: fmt.Sprintf("arch%d", i)}
		}
		index.Manifests = append(index.Manifests, entry)
	}
	return r.PushRaw(repo, tag, IndexType, encode(index))
}

// Layer is one layer of an artifact.
type Layer struct {
	MediaType   string
	Body        []byte
	Digest      digest.Digest // instead of Body: a blob that is there already, or is not
	Size        int           // with Digest
	Annotations map[string]string
}

// Artifact is what PushArtifact makes.
type Artifact struct {
	MediaType  string // default: an OCI image manifest's
	Type       string // artifactType
	ConfigType string // default: the empty type
	Config     []byte // default: {}
	Layers     []Layer
	Subject    digest.Digest // what the referrers API lists it for; empty: nothing

	Annotations map[string]string // which the referrers API lists, too
}

// PushArtifact pushes an artifact and, if it has a subject, lists it in the
// referrers API.
func (r *Registry) PushArtifact(repo, tag string, a Artifact) digest.Digest {
	if a.ConfigType == "" {
		a.ConfigType = EmptyType
	}
	if a.Config == nil {
		a.Config = []byte("{}")
	}
	if a.MediaType == "" {
		a.MediaType = ImageType
	}
	m := Manifest{
		SchemaVersion: 2,
		MediaType:     a.MediaType,
		ArtifactType:  a.Type,
		Layers:        []Descriptor{},
		Annotations:   a.Annotations,
	}
	m.Config = Descriptor{MediaType: a.ConfigType, Digest: r.PushBlob(repo, a.Config), Size: len(a.Config)}
	for _, l := range a.Layers {
		d := Descriptor{
			MediaType:   l.MediaType,
			Digest:      l.Digest,
			Size:        l.Size,
			Annotations: l.Annotations,
		}
		if l.Digest == "" {
			d.Digest, d.Size = r.PushBlob(repo, l.Body), len(l.Body)
		}
		m.Layers = append(m.Layers, d)
	}
	if a.Subject != "" {
		r.mu.Lock()
		of := r.manifests[repo+"@"+a.Subject.String()]
		r.mu.Unlock()
		m.Subject = &Descriptor{MediaType: of.mediaType, Digest: a.Subject, Size: len(of.body)}
	}
	body := encode(m)
	d := r.PushRaw(repo, tag, a.MediaType, body)
	if a.Subject != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		key := repo + "@" + a.Subject.String()
		r.attached[key] = append(r.attached[key], reference{
			MediaType:    a.MediaType,
			Digest:       d,
			Size:         len(body),
			ArtifactType: a.Type,
			Annotations:  a.Annotations,
		})
	}
	return d
}

// Payload is what a legacy signature signs, with an annotation pair by pair.
func Payload(repo string, d digest.Digest, annotations ...string) []byte {
	var optional map[string]string
	for i := 0; i+1 < len(annotations); i += 2 {
		if optional == nil {
			optional = map[string]string{}
		}
		optional[annotations[i]] = annotations[i+1]
	}
	return encode(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": "reg.example/" + repo},
			"image":    map[string]string{"docker-manifest-digest": d.String()},
			"type":     "cosign container image signature",
		},
		"optional": optional,
	})
}

// SignatureLayer is the layer of a legacy signature over payload.
func SignatureLayer(payload []byte, key *ecdsa.PrivateKey) Layer {
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		panic(err) // a P-256 key always signs
	}
	return Layer{
		MediaType:   SimpleSigningType,
		Body:        payload,
		Annotations: map[string]string{signatureAnnotation: base64.StdEncoding.EncodeToString(signature)},
	}
}

// SignatureTag is where the signatures of d are kept.
func SignatureTag(d digest.Digest) string { return strings.Replace(d.String(), ":", "-", 1) + ".sig" }

// FallbackTag is the referrers tag of d.
func FallbackTag(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded()[:64] }

// Sign writes a signature as cosign v2 does: under the .sig tag, with an image
// config that lists the payload. It returns the signature manifest's digest.
func (r *Registry) Sign(repo string, d digest.Digest, key *ecdsa.PrivateKey, annotations ...string) digest.Digest {
	payload := Payload(repo, d, annotations...)
	return r.PushArtifact(repo, SignatureTag(d), Artifact{
		ConfigType: ConfigType,
		Config:     SignatureConfig(digest.FromBytes(payload)),
		Layers:     []Layer{SignatureLayer(payload, key)},
	})
}

// SignatureConfig is the image config cosign v2 writes for its layers.
func SignatureConfig(layers ...digest.Digest) []byte {
	return encode(map[string]any{
		"architecture": "", "created": "0001-01-01T00:00:00Z", "os": "", "config": map[string]any{},
		"history": []any{map[string]string{"created": "0001-01-01T00:00:00Z"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": layers},
	})
}

// Attach writes the same signature as a referrer (cosign's OCI 1.1 mode).
func (r *Registry) Attach(repo string, d digest.Digest, key *ecdsa.PrivateKey) digest.Digest {
	return r.PushArtifact(repo, "", Artifact{
		Type:       SignatureType,
		ConfigType: SignatureType,
		Layers:     []Layer{SignatureLayer(Payload(repo, d), key)},
		Subject:    d,
	})
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps and structs of text and numbers come here
	}
	return b
}
