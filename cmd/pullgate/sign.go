package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/version"
	"github.com/pullgate/pullgate/verify/sigs"
)

func signCommand() *cobra.Command {
	var keyFile, format string
	var recursive bool
	var annotations map[string]string
	cmd := &cobra.Command{
		Use:   "sign --key FILE IMAGE…",
		Short: "Sign images with a key",
		Long: `sign resolves each image once, signs its digest and pushes the signature beside it.
It needs the right to push to the repository; credentials are those of Docker's
configuration (docker login). The key's password is taken from COSIGN_PASSWORD,
or asked for.

A signature of a multi-platform image is enough for its platforms, as the gate
sees it (children: index); --recursive signs each of them as well.

Signatures are the ones cosign makes: a Sigstore bundle as cosign 3, or with
--format legacy the older kind that cosign 1 and 2 write.`,
		Example: "  pullgate sign --key cosign.key ghcr.io/acme/app:v1\n" +
			"  pullgate sign --key cosign.key -a env=prod ghcr.io/acme/app@sha256:…",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, images []string) error {
			if format != "bundle" && format != "legacy" {
				return exit.With(exit.Denied, fmt.Errorf("--format is %q; it must be bundle or legacy", format))
			}
			key, err := readPrivateKey(keyFile, oldPassword(cmd.ErrOrStderr()))
			if err != nil {
				return exit.With(exit.Denied, err)
			}
			with, err := newSigner(key)
			if err != nil {
				return exit.With(exit.Denied, err)
			}
			j := &signing{
				with:        with,
				legacy:      format == "legacy",
				annotations: annotations,
				options: []remote.Option{
					remote.WithContext(cmd.Context()),
					remote.WithAuthFromKeychain(authn.DefaultKeychain),
					remote.WithUserAgent("pullgate/" + version.String()),
				},
			}
			for _, image := range images {
				signed, err := j.sign(cmd.Context(), image, recursive)
				for _, d := range signed {
					fmt.Fprintf(cmd.OutOrStdout(), "signed %s (%s)\n", d, format)
				}
				if err != nil {
					return fmt.Errorf("sign %s: %w", image, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "cosign.key", "the private key `FILE`")
	cmd.Flags().StringVar(&format, "format", "bundle", "bundle | legacy")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "sign each platform of a multi-platform image too")
	cmd.Flags().StringToStringVarP(
		&annotations,
		"annotation",
		"a",
		nil,
		"sign `KEY=VALUE` along with the digest; may be repeated",
	)
	return cmd
}

// signing is one run of sign.
type signing struct {
	with        *signer
	legacy      bool
	annotations map[string]string
	options     []remote.Option
}

// sign signs what the name stands for now. Platforms go first and the index
// last: an index that verifies has been signed whole.
func (j *signing) sign(ctx context.Context, image string, recursive bool) (signed []name.Digest, err error) {
	ref, err := name.ParseReference(image)
	if err != nil {
		return nil, fmt.Errorf("it is no image name: %w", err)
	}
	found, err := remote.Get(ref, j.options...)
	if err != nil {
		return nil, said(err)
	}
	targets := []v1.Descriptor{found.Descriptor}
	if recursive {
		if targets, err = j.below(ref.Context(), found.Descriptor, maxSignDepth); err != nil {
			return nil, err
		}
	}
	for _, target := range targets {
		if err := ctx.Err(); err != nil {
			return signed, err
		}
		write := j.writeBundle
		if j.legacy {
			write = j.writeLegacy
		}
		if err := write(ref.Context(), target); err != nil {
			return signed, said(err)
		}
		signed = append(signed, ref.Context().Digest(target.Digest.String()))
	}
	return signed, nil
}

const maxSignDepth = 3 // as deep as the gate looks

// below lists an index's manifests, deepest first, and the index itself.
func (j *signing) below(repo name.Repository, d v1.Descriptor, depth int) ([]v1.Descriptor, error) {
	if !d.MediaType.IsIndex() || depth == 0 {
		return []v1.Descriptor{d}, nil
	}
	index, err := remote.Index(repo.Digest(d.Digest.String()), j.options...)
	if err != nil {
		return nil, said(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", d.Digest, err)
	}
	var list []v1.Descriptor
	for _, child := range manifest.Manifests {
		more, err := j.below(repo, child, depth-1)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return append(list, d), nil
}

// writeBundle attaches a bundle through the referrers API, or where there is
// none through the referrers tag, keeping what that lists.
func (j *signing) writeBundle(repo name.Repository, target v1.Descriptor) error {
	content, err := j.with.bundle(target.Digest, j.annotations)
	if err != nil {
		return err
	}
	layer, config := static.NewLayer(content, bundleType), static.NewLayer([]byte("{}"), emptyType)
	for _, blob := range []v1.Layer{config, layer} {
		if err := remote.WriteLayer(repo, blob, j.options...); err != nil {
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
	a, err := newArtifact(v1.Descriptor{
		MediaType: target.MediaType,
		Digest:    target.Digest,
		Size:      target.Size,
	}, *configDescriptor, *layerDescriptor, time.Now())
	if err != nil {
		return err
	}
	return remote.Put(a.in(repo), a, j.options...)
}

// writeLegacy adds a signature to those under the image's .sig tag.
func (j *signing) writeLegacy(repo name.Repository, target v1.Descriptor) error {
	payload, sig, err := j.with.simpleSigning(repo.Name(), target.Digest, j.annotations)
	if err != nil {
		return err
	}
	tag := legacyTag(repo, target.Digest)
	base, err := remote.Image(tag, j.options...)
	var refused *transport.Error
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		base = mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	case err != nil:
		return err
	}
	img, err := mutate.Append(base, mutate.Addendum{
		Layer:       static.NewLayer(payload, simpleSigningType),
		Annotations: map[string]string{sigs.AnnotationSignature: sig},
	})
	if err != nil {
		return fmt.Errorf("add the signature to those of %s: %w", tag, err)
	}
	return remote.Write(tag, img, j.options...)
}

// said makes a registry's refusal say what to do.
func said(err error) error {
	var refused *transport.Error
	if !errors.As(err, &refused) {
		return err
	}
	for _, d := range refused.Errors {
		if detail, ok := d.Detail.(map[string]any); ok && detail["decision"] != nil {
			return fmt.Errorf(
				"this name goes through a gate, which takes no pushes: sign at the registry itself (the gate says: %s)",
				d.Message,
			)
		}
	}
	switch refused.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w; log in with the right to push (docker login)", err)
	case http.StatusMethodNotAllowed:
		return fmt.Errorf("%w; this registry takes no pushes: sign at one that does", err)
	}
	if refused.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%w; the registry failed, and the image is not signed: sign again when it works", err)
	}
	return err
}
