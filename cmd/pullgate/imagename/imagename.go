// Package imagename reads image names as people write them: without a registry,
// without a tag, with the short names of Docker Hub.
package imagename

import (
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
)

// maxError bounds, in bytes, what an error quotes of the parser.
const maxError = 500

// Parse reads one image name. A name without a registry is on Docker Hub, one
// without a tag or a digest has the tag "latest". Its errors are printable.
func Parse(image string) (policy.Image, error) {
	if scheme, _, written := strings.Cut(image, "://"); written {
		const message = "%.300q is no image name: leave out %.20q, as in ghcr.io/acme/app:v1"
		return policy.Image{}, fmt.Errorf(message, image, scheme+"://")
	}
	ref, err := name.ParseReference(pastGate(image))
	if err != nil {
		// The parser repeats the name as it is.
		why := show.Printable(show.Shorten(err.Error(), maxError))
		return policy.Image{}, fmt.Errorf("%.300q is no image name: %s", image, why)
	}

	repo, err := policy.ParseRepository(ref.Context().RegistryStr() + "/" + ref.Context().RepositoryStr())
	if err != nil {
		return policy.Image{}, err
	}

	reference, err := policy.ParseReference(ref.Identifier())
	return policy.Image{Repository: repo, Reference: reference}, err
}

// ParseRepository is Parse for a name that has neither a tag nor a digest. It
// returns false for any other name.
func ParseRepository(image string) (policy.Repository, bool) {
	bare, err := name.NewRepository(pastGate(image))
	if err != nil {
		return policy.Repository{}, false
	}

	repo, err := policy.ParseRepository(bare.RegistryStr() + "/" + bare.RepositoryStr())
	return repo, err == nil
}
