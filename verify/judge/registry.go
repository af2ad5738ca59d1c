package judge

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Registry is what the search for signatures needs of an upstream. All bytes it
// returns are untrusted; the implementation bounds them before it reads them.
// It must be safe for concurrent use.
type Registry interface {
	// Manifest fetches a manifest by tag or digest, at most limit bytes. The
	// implementation hashes the bytes itself and, asked by digest, refuses
	// others (*oci.UpstreamError with Status 502).
	Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error)
	// Blob fetches a small blob whole, at most limit bytes, hashed and compared.
	Blob(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error)
	// Referrers fetches the pages of the referrers API, at most limit bytes in
	// all. A registry that has no such API (404, 405, 501, 400 or a 200 that is
	// no index) is no error: the list says that it is not supported.
	Referrers(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) (oci.Referrers, error)
}
