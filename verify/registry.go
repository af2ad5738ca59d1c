package verify

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/judge"
)

// Registry is what the gate needs of an upstream: what the search for
// signatures needs, and tags.
type Registry interface {
	judge.Registry
	// Resolve asks for the digest of a tag with one HEAD. ok is false when the
	// upstream does not say, whatever it answers; then Manifest must be asked. An
	// error means that it could not be asked, or limits how often it may be.
	Resolve(ctx context.Context, repo policy.Repository, tag string) (d digest.Digest, ok bool, err error)
}
