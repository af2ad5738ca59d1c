package signing

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	emptyType     = "application/vnd.oci.empty.v1+json"
	statementType = "https://in-toto.io/Statement/v1"
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
	inTotoType    = "application/vnd.in-toto+json"
)

// newBundle returns a Sigstore bundle that signs one image: a DSSE envelope around
// an in-toto statement, and a hint at the key.
func newBundle(
	ctx context.Context,
	signer Signer,
	image v1.Hash,
	annotations map[string]string,
) ([]byte, error) {
	statement, err := newStatement(image, annotations)
	if err != nil {
		return nil, err
	}
	sig, err := signer.Sign(ctx, dsse.PAE(inTotoType, statement))
	if err != nil {
		return nil, err
	}

	bundle, err := json.Marshal(map[string]any{
		"mediaType": bundleType,
		"verificationMaterial": map[string]any{
			"publicKey": map[string]string{"hint": base64.StdEncoding.EncodeToString(sig.KeyHint)},
		},
		"dsseEnvelope": map[string]any{
			"payload":     statement,
			"payloadType": inTotoType,
			"signatures":  []any{map[string]any{"sig": sig.Raw}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	return bundle, nil
}

// newStatement returns the in-toto statement that says that an image is signed.
func newStatement(image v1.Hash, annotations map[string]string) ([]byte, error) {
	if annotations == nil {
		annotations = map[string]string{} // an object in JSON, too
	}

	statement, err := json.Marshal(map[string]any{
		"_type": statementType,
		"subject": []any{map[string]any{
			"digest":      map[string]string{image.Algorithm: image.Hex},
			"annotations": annotations,
		}},
		"predicateType": signPredicate,
		"predicate":     map[string]any{},
	})
	if err != nil {
		return nil, fmt.Errorf("write statement: %w", err)
	}
	return statement, nil
}

// artifact is the manifest that attaches a bundle to an image, as it is pushed.
type artifact struct{ raw []byte }

func newArtifact(subject, config, layer v1.Descriptor, now time.Time) (artifact, error) {
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     types.OCIManifestSchema1,
		"artifactType":  bundleType,
		"config":        config,
		"layers":        []v1.Descriptor{layer},
		"subject":       subject,
		"annotations": map[string]string{
			"dev.sigstore.bundle.content":       "dsse-envelope",
			"dev.sigstore.bundle.predicateType": signPredicate,
			"org.opencontainers.image.created":  now.UTC().Format(time.RFC3339),
		},
	})
	if err != nil {
		return artifact{}, fmt.Errorf("write artifact: %w", err)
	}
	return artifact{raw}, nil
}

// RawManifest returns the bytes that are pushed.
func (a artifact) RawManifest() ([]byte, error) { return a.raw, nil }

// MediaType returns the manifest's media type.
func (a artifact) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// in returns the name of the artifact in a repository.
func (a artifact) in(repo name.Repository) name.Digest {
	return repo.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(a.raw)))
}
