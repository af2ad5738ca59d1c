package demo

import (
	"context"
	"crypto/ecdsa"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pullgate/pullgate/cmd/pullgate/signing"
)

// Image is one image of the demo's registry, with the tag latest.
type Image struct {
	Name   string // its repository
	Signed bool

	what string // as people say it
}

// PushImages fills the registry at addr with the demo's images, and signs with
// key what is to be admitted.
func PushImages(ctx context.Context, addr string, key *ecdsa.PrivateKey) ([]Image, error) {
	signer, err := signing.NewKeySigner(key)
	if err != nil {
		return nil, err
	}
	pusher := signing.Pusher{Signer: signer, Format: signing.Legacy}

	images := []Image{
		{Name: "signed", what: "signed", Signed: true},
		{Name: "multi", what: "signed, for two platforms", Signed: true},
		{Name: "unsigned", what: "not signed"},
	}

	for _, image := range images {
		tag, err := name.NewTag(addr+"/"+image.Name+":latest", name.Insecure)
		if err != nil {
			return nil, fmt.Errorf("name %s: %w", image.Name, err)
		}

		push := pushImage
		if image.Name == "multi" {
			push = pushIndex
		}
		d, err := push(ctx, tag)
		if err == nil && image.Signed {
			err = pusher.Sign(ctx, tag.Context(), v1.Descriptor{Digest: d})
		}
		if err != nil {
			return nil, fmt.Errorf("push %s: %w", image.Name, err)
		}
	}
	return images, nil
}

// pushImage pushes a small image under tag.
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

// pushIndex pushes an index of two small images under tag.
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
