package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/sigs"
)

const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// image is one image as it was pushed: an index of one platform.
type image struct {
	repo          string
	index         []byte
	indexDigest   digest.Digest
	child         digest.Digest
	config, layer digest.Digest
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func describe(mediaType string, b []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: len(b)}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps and strings always encode
	}
	return b
}

// push is where images go: the registry's address and the key they are signed with.
type push struct {
	base string
	key  *ecdsa.PrivateKey
}

func (p push) put(ctx context.Context, repo, kind, reference, mediaType string, body []byte) error {
	req, err := http.NewRequestWithContext(
		ctx,
		http.MethodPut,
		p.base+"/v2/"+repo+"/"+kind+"/"+reference,
		bytes.NewReader(body),
	)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Docker-Content-Digest", digest.FromBytes(body).String())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("push %s of %s: %s %s", reference, repo, resp.Status, answer)
	}
	return err
}

// image pushes an image whose index has indexBytes bytes (0: as they come) and
// whose one layer is given, under the tag latest.
func (p push) image(ctx context.Context, repo string, layer []byte, indexBytes int, signed bool) (*image, error) {
	config := encode(map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"config":       map[string]any{},
		"made":         rand.Text(),
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []digest.Digest{digest.FromBytes(layer)}},
	})
	manifest := encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifestType,
		"config":        describe(configType, config),
		"layers":        []descriptor{describe(layerType, layer)},
	})
	entry := describe(manifestType, manifest)
	entry.Platform = map[string]string{"os": "linux", "architecture": "amd64"}
	index := encode(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": []descriptor{entry}})
	if pad := indexBytes - len(index) - len(`,"annotations":{"pad":""}`); pad > 0 {
		index = append(index[:len(index)-1], `,"annotations":{"pad":"`+strings.Repeat("x", pad)+`"}}`...)
	}
	img := &image{
		repo:        repo,
		index:       index,
		indexDigest: digest.FromBytes(index),
		child:       entry.Digest,
		config:      digest.FromBytes(config),
		layer:       digest.FromBytes(layer),
	}
	for _, part := range []struct {
		kind, reference, mediaType string
		body                       []byte
	}{
		{"blobs", img.config.String(), "application/octet-stream", config},
		{"blobs", img.layer.String(), "application/octet-stream", layer},
		{"manifests", img.child.String(), manifestType, manifest},
		{"manifests", img.indexDigest.String(), indexType, index},
		{"manifests", "latest", indexType, index},
	} {
		if err := p.put(ctx, repo, part.kind, part.reference, part.mediaType, part.body); err != nil {
			return nil, err
		}
	}
	if !signed {
		return img, nil
	}
	return img, p.sign(ctx, img)
}

// sign writes a signature as cosign v2 does: a simple-signing payload, a layer
// of an image under the tag sha256-<hex>.sig.
func (p push) sign(ctx context.Context, img *image) error {
	payload := encode(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": host + "/" + img.repo},
			"image":    map[string]string{"docker-manifest-digest": img.indexDigest.String()},
			"type":     "cosign container image signature",
		},
		"optional": nil,
	})
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, p.key, sum[:])
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	layer := describe(sigs.MediaTypeSimpleSigning, payload)
	layer.Annotations = map[string]string{sigs.AnnotationSignature: base64.StdEncoding.EncodeToString(signature)}
	config := encode(map[string]any{
		"architecture": "", "os": "", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{layer.Digest}},
	})
	manifest := encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifestType,
		"config":        describe(configType, config),
		"layers":        []descriptor{layer},
	})
	if err := p.put(ctx, img.repo, "blobs", layer.Digest.String(), "application/octet-stream", payload); err != nil {
		return err
	}
	if err := p.put(
		ctx,
		img.repo,
		"blobs",
		digest.FromBytes(config).String(),
		"application/octet-stream",
		config,
	); err != nil {
		return err
	}
	tag := strings.Replace(img.indexDigest.String(), ":", "-", 1) + ".sig"
	return p.put(ctx, img.repo, "manifests", tag, manifestType, manifest)
}
