package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

// canaryBytes is the size of the canary's only layer.
const canaryBytes = 64

// makeCanary pushes a small image for every usual platform, which runs nothing, to
// be the canary. It writes over no image. Credentials are those of Docker's
// configuration.
func makeCanary(ctx context.Context, image string) error {
	if _, err := imagename.Parse(image); err != nil {
		return err
	}
	ref, err := name.NewTag(image)
	if err != nil {
		return fmt.Errorf("a canary is named by a tag, e.g. ghcr.io/acme/canary:v1: %w", err)
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithUserAgent("pullgate/" + version.String()),
	}

	_, err = remote.Head(ref, options...)
	var refused *transport.Error
	switch {
	case err == nil:
		return fmt.Errorf("there is an image %s already: it can be the canary as it is, unless it is needed", ref)
	case !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound:
		return fmt.Errorf("look for %s: %w", ref, err)
	}

	index, err := canaryIndex()
	if err != nil {
		return fmt.Errorf("make the canary: %w", err)
	}
	if err := remote.WriteIndex(ref, index, options...); err != nil {
		return fmt.Errorf("push %s: %w; log in with the right to push (docker login)", ref, err)
	}
	return nil
}

func canaryIndex() (v1.ImageIndex, error) {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64", "arm", "ppc64le", "riscv64", "s390x"} {
		image, err := random.Image(canaryBytes, 1)
		if err != nil {
			return nil, err
		}
		platform := v1.Platform{OS: "linux", Architecture: arch}
		config, err := image.ConfigFile()
		if err != nil {
			return nil, err
		}
		config.OS, config.Architecture = platform.OS, platform.Architecture
		if image, err = mutate.ConfigFile(image, config); err != nil {
			return nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &platform},
		})
	}
	return index, nil
}
