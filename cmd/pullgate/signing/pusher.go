package signing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxDepth is how deep indexes are followed: as deep as the gate looks.
const maxDepth = 3

// Pusher signs images in registries and pushes the signatures beside them.
type Pusher struct {
	Signer      Signer
	Format      Format
	Annotations map[string]string // signed along with the digest
	Recursive   bool              // each platform of a multi-platform image is signed too
	Options     []remote.Option
}

// SignImage signs what a name stands for now, and returns what was signed, also
// when it fails half-way. Platforms go first and the index last: an index that
// verifies has been signed whole.
func (p *Pusher) SignImage(ctx context.Context, image string) (signed []name.Digest, err error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return nil, fmt.Errorf("it is no image name: %w", err)
	}
	found, err := remote.Get(ref, p.options(ctx)...)
	if err != nil {
		return nil, explain(err)
	}

	repo := ref.Context()
	targets := []v1.Descriptor{found.Descriptor}
	if p.Recursive {
		if targets, err = p.below(ctx, repo, found.Descriptor, maxDepth); err != nil {
			return nil, err
		}
	}

	for _, target := range targets {
		if err := ctx.Err(); err != nil {
			return signed, err
		}
		if err := p.Sign(ctx, repo, target); err != nil {
			return signed, explain(err)
		}
		signed = append(signed, repo.Digest(target.Digest.String()))
	}
	return signed, nil
}

func (p *Pusher) options(ctx context.Context) []remote.Option {
	return append([]remote.Option{remote.WithContext(ctx)}, p.Options...)
}

// below lists the manifests of an index, the deepest first, and the index itself.
func (p *Pusher) below(ctx context.Context, repo name.Repository, d v1.Descriptor, depth int) ([]v1.Descriptor, error) {
	if !d.MediaType.IsIndex() || depth == 0 {
		return []v1.Descriptor{d}, nil
	}

	index, err := remote.Index(repo.Digest(d.Digest.String()), p.options(ctx)...)
	if err != nil {
		return nil, explain(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", d.Digest, err)
	}

	var list []v1.Descriptor
	for _, child := range manifest.Manifests {
		more, err := p.below(ctx, repo, child, depth-1)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return append(list, d), nil
}

// Sign signs one manifest and pushes the signature.
func (p *Pusher) Sign(ctx context.Context, repo name.Repository, target v1.Descriptor) error {
	if p.Format == Legacy {
		return p.pushLegacy(ctx, repo, target)
	}
	return p.pushBundle(ctx, repo, target)
}

// pushBundle attaches a bundle through the referrers API, or where there is none
// through the referrers tag, keeping what that lists.
func (p *Pusher) pushBundle(ctx context.Context, repo name.Repository, target v1.Descriptor) error {
	content, err := newBundle(ctx, p.Signer, target.Digest, p.Annotations)
	if err != nil {
		return err
	}

	layer, config := static.NewLayer(content, bundleType), static.NewLayer([]byte("{}"), emptyType)
	for _, blob := range []v1.Layer{config, layer} {
		if err := remote.WriteLayer(repo, blob, p.options(ctx)...); err != nil {
			return err
		}
	}
	layerDescriptor, err := partial.Descriptor(layer)
	if err != nil {
		return fmt.Errorf("describe bundle: %w", err)
	}
	configDescriptor, err := partial.Descriptor(config)
	if err != nil {
		return fmt.Errorf("describe config: %w", err)
	}

	subject := v1.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
	a, err := newArtifact(subject, *configDescriptor, *layerDescriptor, time.Now())
	if err != nil {
		return err
	}
	return remote.Put(a.in(repo), a, p.options(ctx)...)
}

// pushLegacy adds a signature to those under the image's .sig tag.
func (p *Pusher) pushLegacy(ctx context.Context, repo name.Repository, target v1.Descriptor) error {
	layer, err := newSimpleSigning(ctx, p.Signer, repo.Digest(target.Digest.String()), p.Annotations)
	if err != nil {
		return err
	}

	tag := legacyTag(repo, target.Digest)
	base, err := remote.Image(tag, p.options(ctx)...)
	var refused *transport.Error
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		base = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	case err != nil:
		return err
	}

	img, err := mutate.Append(base, layer)
	if err != nil {
		return fmt.Errorf("add the signature to those of %s: %w", tag, err)
	}
	return remote.Write(tag, img, p.options(ctx)...)
}

// explain adds what to do to a registry's refusal.
func explain(err error) error {
	var refused *transport.Error
	if !errors.As(err, &refused) {
		return err
	}
	for _, d := range refused.Errors {
		if detail, ok := d.Detail.(map[string]any); ok && detail["decision"] != nil {
			const message = "this name goes through a gate, which takes no pushes: sign at the registry itself " +
				"(the gate says: %s)"
			return fmt.Errorf(message, d.Message)
		}
	}

	switch {
	case refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%w; log in with the right to push (docker login)", err)
	case refused.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("%w; this registry takes no pushes: sign at one that does", err)
	case refused.StatusCode >= http.StatusInternalServerError:
		return fmt.Errorf("%w; the registry failed, and the image is not signed: sign again when it works", err)
	}
	return err
}
