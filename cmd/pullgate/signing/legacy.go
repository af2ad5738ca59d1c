package signing

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/pullgate/pullgate/verify/sigs"
)

var simpleSigningType = types.MediaType(sigs.MediaTypeSimpleSigning)

// newSimpleSigning returns a legacy signature of one image, as a layer: its
// payload, and the annotation that carries the signature in base64.
func newSimpleSigning(
	ctx context.Context,
	signer Signer,
	image name.Digest,
	annotations map[string]string,
) (mutate.Addendum, error) {
	payload, err := simpleSigningPayload(image, annotations)
	if err != nil {
		return mutate.Addendum{}, err
	}
	sig, err := signer.Sign(ctx, payload)
	if err != nil {
		return mutate.Addendum{}, err
	}

	return mutate.Addendum{
		Layer:       static.NewLayer(payload, simpleSigningType),
		Annotations: map[string]string{sigs.AnnotationSignature: base64.StdEncoding.EncodeToString(sig.Raw)},
	}, nil
}

func simpleSigningPayload(image name.Digest, annotations map[string]string) ([]byte, error) {
	var optional any // null without annotations
	if len(annotations) > 0 {
		optional = annotations
	}

	payload, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"identity": map[string]string{"docker-reference": image.Context().Name()},
			"image":    map[string]string{"docker-manifest-digest": image.DigestStr()},
			"type":     "cosign container image signature",
		},
		"optional": optional,
	})
	if err != nil {
		return nil, fmt.Errorf("write payload: %w", err)
	}
	return payload, nil
}

// legacyTag is where the legacy signatures of an image live.
func legacyTag(repo name.Repository, image v1.Hash) name.Tag {
	return repo.Tag(image.Algorithm + "-" + image.Hex + ".sig")
}
