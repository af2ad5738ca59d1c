package main

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

type demoImage struct {
	name, what string
	signed     bool
}

// pushDemoImages fills the demo registry and signs what is to be admitted.
func pushDemoImages(ctx context.Context, addr string, key *ecdsa.PrivateKey) ([]demoImage, error) {
	images := []demoImage{
		{"signed", "signed", true},
		{"multi", "signed, for two platforms", true},
		{"unsigned", "not signed", false},
	}
	for _, image := range images {
		tag, err := demoTag(addr, image.name)
		if err != nil {
			return nil, fmt.Errorf("name %s: %w", image.name, err)
		}
		var d v1.Hash
		if image.name == "multi" {
			d, err = pushIndex(ctx, tag)
		} else {
			d, err = pushImage(ctx, tag)
		}
		if err == nil && image.signed {
			err = signDemo(ctx, tag.Context(), d, key)
		}
		if err != nil {
			return nil, fmt.Errorf("push %s: %w", image.name, err)
		}
	}
	return images, nil
}

func pushImage(ctx context.Context, tag name.Tag) (v1.Hash, error) {
	img, err := random.Image(1024, 2)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := remote.Write(tag, img, remote.WithContext(ctx)); err != nil {
		return v1.Hash{}, err
	}
	return img.Digest()
}

func pushIndex(ctx context.Context, tag name.Tag) (v1.Hash, error) {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := random.Image(1024, 2)
		if err != nil {
			return v1.Hash{}, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        img,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if err := remote.WriteIndex(tag, index, remote.WithContext(ctx)); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// signDemo signs as `pullgate sign --format legacy` does.
func signDemo(ctx context.Context, repo name.Repository, d v1.Hash, key *ecdsa.PrivateKey) error {
	with, err := newSigner(key)
	if err != nil {
		return err
	}
	j := &signing{with: with, legacy: true, options: []remote.Option{remote.WithContext(ctx)}}
	return j.writeLegacy(repo, v1.Descriptor{Digest: d})
}

// waitFor returns when url answers, or when the gate has ended instead.
func waitFor(ctx context.Context, url string, served <-chan error) error {
	for range 100 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close()
		}
		select {
		case err := <-served:
			return errors.Join(errors.New("the gate did not start"), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("the gate did not answer within 5 s")
}
