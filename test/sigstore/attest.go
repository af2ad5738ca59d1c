package sigstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"google.golang.org/protobuf/encoding/protojson"
)

// BundleType is the media type of bundles, and the artifactType of what holds one.
const BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// SLSAProvenance is the predicate type of Provenance.
const SLSAProvenance = "https://slsa.dev/provenance/v1"

// Provenance is what actions/attest-build-provenance says of a build.
func Provenance(w Workflow) map[string]any {
	builder := w.Reusable
	if builder == "" {
		builder = path.Join(w.Repository, w.File) + "@" + w.Ref
	}
	repository := "https://github.com/" + w.Repository
	return map[string]any{
		"buildDefinition": map[string]any{
			"buildType": "https://actions.github.io/buildtypes/workflow/v1",
			"externalParameters": map[string]any{"workflow": map[string]string{
				"ref":        w.Ref,
				"repository": repository,
				"path":       w.File,
			}},
			"internalParameters": map[string]any{"github": map[string]string{
				"event_name":          "push",
				"repository_id":       "4242",
				"repository_owner_id": "42",
				"runner_environment":  "github-hosted",
			}},
			"resolvedDependencies": []any{map[string]any{
				"uri":    "git+" + repository + "@" + w.Ref,
				"digest": map[string]string{"gitCommit": "0123456789abcdef0123456789abcdef01234567"},
			}},
		},
		"runDetails": map[string]any{
			"builder":  map[string]string{"id": "https://github.com/" + builder},
			"metadata": map[string]string{"invocationId": repository + "/actions/runs/7/attempts/1"},
		},
	}
}

// Attest signs a statement about an image and attaches it as actions/attest
// does with push-to-registry. With FulcioGitHub and TSAGitHub it is what GitHub
// writes for private repositories, with Fulcio and RekorV1 that for public ones.
func (s *Stack) Attest(
	ctx context.Context,
	services Services,
	token string,
	image name.Digest,
	predicateType string,
	predicate any,
) error {
	bundle, err := s.Statement(ctx, services, token, image, predicateType, predicate)
	if err != nil {
		return err
	}
	return AttachBundle(ctx, image, bundle, predicateType)
}

// Statement is the bundle of Attest, attached to nothing.
func (s *Stack) Statement(
	ctx context.Context,
	services Services,
	token string,
	image name.Digest,
	predicateType string,
	predicate any,
) ([]byte, error) {
	digest, err := v1.NewHash(image.DigestStr())
	if err != nil {
		return nil, err
	}
	statement, err := json.Marshal(map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"predicateType": predicateType,
		"predicate":     predicate,
		"subject": []any{map[string]any{
			"name":   image.Context().Name(),
			"digest": map[string]string{digest.Algorithm: digest.Hex},
		}},
	})
	if err != nil {
		return nil, err
	}
	bundle, err := s.bundle(ctx, services, token, statement)
	if err != nil {
		return nil, fmt.Errorf("sign a statement about %s: %w", image, err)
	}
	return bundle, nil
}

func (s *Stack) bundle(ctx context.Context, services Services, token string, statement []byte) ([]byte, error) {
	key, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		return nil, err
	}
	opts := sign.BundleOptions{
		Context: ctx,
		CertificateProvider: sign.NewFulcio(
			&sign.FulcioOptions{BaseURL: services.Fulcio, Timeout: 10 * time.Second},
		),
		CertificateProviderOptions: &sign.CertificateProviderOptions{IDToken: token},
	}
	if services.TSA != "" {
		opts.TimestampAuthorities = []*sign.TimestampAuthority{
			sign.NewTimestampAuthority(&sign.TimestampAuthorityOptions{
				URL:     services.TSA,
				Timeout: 10 * time.Second,
			}),
		}
	}
	if services.Rekor != "" {
		version := uint32(1)
		if services.Rekor == s.RekorV2 {
			version = 2
		}
		opts.TransparencyLogs = []sign.Transparency{sign.NewRekor(&sign.RekorOptions{
			BaseURL: services.Rekor,
			Timeout: 10 * time.Second,
			Version: version,
		})}
	}
	b, err := sign.Bundle(&sign.DSSEData{Data: statement, PayloadType: "application/vnd.in-toto+json"}, key, opts)
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(b)
}

// AttachBundle pushes a bundle as a referrer of an image, with an annotation
// that says its type.
func AttachBundle(ctx context.Context, image name.Digest, bundle []byte, predicateType string) error {
	if err := attachBundle(ctx, image, bundle, predicateType); err != nil {
		return fmt.Errorf("attach a bundle to %s: %w", image, err)
	}
	return nil
}

func attachBundle(ctx context.Context, image name.Digest, bundle []byte, predicateType string) error {
	subject, err := remote.Head(image, remote.WithContext(ctx))
	if err != nil {
		return err
	}
	config, layer := static.NewLayer(
		[]byte("{}"),
		"application/vnd.oci.empty.v1+json",
	), static.NewLayer(
		bundle,
		BundleType,
	)
	parts := make([]v1.Descriptor, 2)
	for i, l := range []v1.Layer{config, layer} {
		if err := remote.WriteLayer(image.Context(), l, remote.WithContext(ctx)); err != nil {
			return err
		}
		if parts[i], err = describe(l); err != nil {
			return err
		}
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     types.OCIManifestSchema1,
		"artifactType":  BundleType,
		"config":        parts[0],
		"layers":        parts[1:],
		"subject":       subject,
		"annotations": map[string]string{
			"org.opencontainers.image.created": time.Now().UTC().Format(time.RFC3339),
			"dev.sigstore.bundle.content":      "dsse-envelope", "dev.sigstore.bundle.predicateType": predicateType,
		},
	})
	if err != nil {
		return err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		return err
	}
	return remote.Put(image.Context().Digest(digest.String()), rawManifest(manifest), remote.WithContext(ctx))
}

func describe(l v1.Layer) (d v1.Descriptor, err error) {
	if d.MediaType, err = l.MediaType(); err != nil {
		return d, err
	}
	if d.Digest, err = l.Digest(); err != nil {
		return d, err
	}
	d.Size, err = l.Size()
	return d, err
}

// rawManifest is the bytes of an OCI manifest, for remote.Put.
type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)        { return m, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
