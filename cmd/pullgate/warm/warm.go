// Package warm lets a gate learn images before the first pull: it asks for each
// manifest of an image as a client would.
package warm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// maxDepth bounds how deep indexes are followed.
const maxDepth = 3

// asker fetches one admitted manifest, or says why not. It returns a *refusal for
// an image that the gate denies.
type asker func(ctx context.Context, image policy.Image) ([]byte, error)

// refusal is a denial, as against an answer that could not be had.
type refusal struct{ message string }

func (r *refusal) Error() string { return r.message }

// OnlyDenied reports whether every error in err, which Image returned, is the
// gate's denial.
func OnlyDenied(err error) bool {
	var list interface{ Unwrap() []error }
	if errors.As(err, &list) {
		for _, e := range list.Unwrap() {
			if !OnlyDenied(e) {
				return false
			}
		}
		return true
	}

	var r *refusal
	return errors.As(err, &r)
}

// Image asks for an image and every manifest below it, and returns how many the
// gate knows now.
func (g *Gate) Image(ctx context.Context, name string) (int, error) {
	image, err := imagename.Parse(name)
	if err != nil {
		return 0, err
	}

	image = g.config.Image(image)
	w := walk{ask: g.ask, known: map[digest.Digest]bool{}}
	err = w.from(ctx, image, 0)
	return len(w.known), err
}

// walk goes through the manifests of one image.
type walk struct {
	ask   asker
	known map[digest.Digest]bool
}

func (w *walk) from(ctx context.Context, image policy.Image, depth int) error {
	body, err := w.ask(ctx, image)
	if err != nil {
		return err
	}
	w.known[digest.FromBytes(body)] = true

	var index struct {
		Manifests []oci.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(body, &index); err != nil {
		return fmt.Errorf("read %s: %w", image.Reference, err)
	}

	for _, child := range index.Manifests {
		if depth >= maxDepth || w.known[child.Digest] {
			continue
		}
		if err := w.from(ctx, image.At(child.Digest), depth+1); err != nil {
			return err
		}
	}
	return nil
}
