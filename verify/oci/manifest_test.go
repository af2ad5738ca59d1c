package oci

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	ociImage = "application/vnd.oci.image.manifest.v1+json"
	ociIndex = "application/vnd.oci.image.index.v1+json"
)

func desc(n int) string {
	return fmt.Sprintf(`{"mediaType":"application/octet-stream","digest":"sha256:%064x","size":%d}`, n, n)
}

func TestParseManifest(t *testing.T) {
	image := `{"schemaVersion":2,"mediaType":"` + ociImage + `","config":` + desc(
		1,
	) + `,"layers":[` + desc(
		2,
	) + `,` + desc(
		3,
	) + `]}`
	child := func(mediaType string) string {
		return strings.Replace(desc(4), "application/octet-stream", mediaType, 1)
	}
	index := `{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[` + child(ociImage) + `]}`
	for name, c := range map[string]struct {
		body, contentType string
		blobs, manifests  int
		wrong             string
	}{
		"image": {body: image, contentType: ociImage, blobs: 3},
		"index": {body: index, contentType: ociIndex, manifests: 1},
		"index of layers": {
			body:        strings.Replace(index, child(ociImage), desc(4)+","+desc(5), 1),
			contentType: ociIndex,
			blobs:       2,
		},
		"index of a manifest and a layer": {
			body:        strings.Replace(index, child(ociImage), child(ociIndex)+","+desc(5), 1),
			contentType: ociIndex,
			blobs:       1,
			manifests:   1,
		},
		"index without media types": {
			body:        strings.Replace(index, `"mediaType":"`+ociImage+`",`, "", 1),
			contentType: ociIndex,
			manifests:   1,
		},
		"index of schema 1": {
			body:        strings.Replace(index, ociImage, "application/vnd.docker.distribution.manifest.v1+json", 1),
			contentType: ociIndex,
			manifests:   1,
		},
		"media type only in header": {
			body:        strings.Replace(image, `"mediaType":"`+ociImage+`",`, "", 1),
			contentType: ociImage,
			blobs:       3,
		},
		"media type only in body": {body: image, contentType: "application/octet-stream", blobs: 3},
		"subject admits nothing": {
			body:        strings.Replace(image, `"layers"`, `"subject":`+desc(9)+`,"layers"`, 1),
			contentType: ociImage,
			blobs:       3,
		},
		"no media type at all": {
			body:        strings.Replace(image, `"mediaType":"`+ociImage+`",`, "", 1),
			contentType: "text/plain",
			wrong:       "unknown media type",
		},
		"GHSA-qq97-vm5h-rrhg both": {
			body:        strings.Replace(image, `"layers"`, `"manifests":[],"layers"`, 1),
			contentType: ociImage,
			wrong:       "at once",
		},
		"GHSA-5j5w-g665-5m35 differs": {body: index, contentType: ociImage, wrong: "the registry says"},
		"image called index": {
			body:        strings.Replace(image, ociImage, ociIndex, 1),
			contentType: ociIndex,
			wrong:       "not what its media type",
		},
		"case variant": {
			body:        strings.Replace(image, `"layers"`, `"Layers":[],"layers"`, 1),
			contentType: ociImage,
			wrong:       "invalid",
		},
		"duplicate key": {
			body:        strings.Replace(image, `"layers"`, `"layers":[],"layers"`, 1),
			contentType: ociImage,
			wrong:       "invalid",
		},
		"only a case variant": {
			body:        strings.Replace(image, `"layers"`, `"LAYERS"`, 1),
			contentType: ociImage,
			wrong:       "invalid",
		},
		"trailing bytes": {body: image + "{}", contentType: ociImage, wrong: "invalid"},
		"schema 1": {
			body:        `{"schemaVersion":1,"fsLayers":[],"history":[]}`,
			contentType: "application/vnd.docker.distribution.manifest.v1+prettyjws",
			wrong:       "schema 1",
		},
		"schema 1 in disguise": {
			body:        strings.Replace(image, `"layers"`, `"fsLayers":[],"layers"`, 1),
			contentType: ociImage,
			wrong:       "schema 1",
		},
		"CVE-2024-3727 digest": {
			body:        strings.Replace(image, fmt.Sprintf("sha256:%064x", 2), "sha256:../../etc", 1),
			contentType: ociImage,
			wrong:       "invalid digest",
		},
		"null layers": {
			body:        `{"schemaVersion":2,"mediaType":"` + ociImage + `","config":` + desc(1) + `,"layers":null}`,
			contentType: ociImage,
			wrong:       "not what its media type",
		},
		"CVE-2024-29903 many layers": {
			body: `{"schemaVersion":2,"mediaType":"` +
				ociImage + `","config":` + desc(1) + `,"layers":[` + strings.Repeat(desc(2)+",", 20) + desc(2) + `]}`,
			contentType: ociImage,
			wrong:       "limit",
		},
		"not JSON": {body: `<html>`, contentType: ociImage, wrong: "invalid"},
		"deep": {
			body:        strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100),
			contentType: ociImage,
			wrong:       "invalid",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseManifest([]byte(c.body), c.contentType, 20)
			if c.wrong != "" {
				if !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("got %+v, %v; want an invalid manifest because of %q", s, err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Blobs) != c.blobs || len(s.Manifests) != c.manifests || len(s.Sizes) != c.blobs {
				t.Fatalf(
					"got %d blobs and %d manifests, want %d and %d",
					len(s.Blobs),
					len(s.Manifests),
					c.blobs,
					c.manifests,
				)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"`+ociIndex+`","manifests":[`+desc(4)+`]}`), ociIndex)
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"`+ociIndex+`","manifests":[{"digest":"sha256:`+
		strings.Repeat("a", 64)+`"},`+desc(4)+`]}`), ociIndex)
	f.Add([]byte(`{"schemaVersion":2,"config":`+desc(1)+`,"layers":[]}`), ociImage)
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		s, err := ParseManifest(body, contentType, 50)
		if err != nil {
			return
		}
		if (s.Kind == Index) == (s.Kind == Image) || len(s.Blobs) != len(s.Sizes) ||
			s.Kind == Image && len(s.Manifests) > 0 {
			t.Fatalf("ambiguous: %+v", s)
		}
		for _, d := range append(s.Blobs, s.Manifests...) {
			if CheckDigest(d) != nil {
				t.Fatalf("lists %q", d)
			}
		}
	})
}
