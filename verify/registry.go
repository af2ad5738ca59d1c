package verify

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Registry is what the gate needs of an upstream. All bytes it returns are
// untrusted; sizes are bounded by the implementation before they are read.
type Registry interface {
	// Manifest fetches a manifest by tag or digest, at most limit bytes. The
	// implementation hashes the bytes itself and, asked by digest, refuses
	// others (*UpstreamError with Status 502).
	Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error)
	// Resolve asks for the digest of a tag with one HEAD. ok is false when
	// the upstream does not say; then Manifest must be asked.
	Resolve(ctx context.Context, repo policy.Repository, tag string) (d digest.Digest, ok bool, err error)
	// Blob fetches a small blob whole, at most max bytes, hashed and compared.
	Blob(ctx context.Context, repo policy.Repository, d digest.Digest, max int64) ([]byte, error)
	// Referrers fetches the pages of the referrers API, at most max bytes in all.
	// supported is false when the registry answered that it has none (404,
	// 405, 501, 400 or a 200 that is no index). truncated is true when the list went on beyond
	// the limits.
	Referrers(ctx context.Context, repo policy.Repository, d digest.Digest, max int64) (list oci.Referrers, err error)
}
