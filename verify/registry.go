package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
)

// Registry is what the gate needs of an upstream. All bytes it returns are
// untrusted; sizes are bounded by the implementation before they are read.
type Registry interface {
	// Manifest fetches a manifest by tag or digest, at most max bytes. The
	// implementation hashes the bytes itself and, asked by digest, refuses
	// others (*UpstreamError with Status 502).
	Manifest(ctx context.Context, repo policy.Repository, reference string, max int64) (Manifest, error)
	// Resolve asks for the digest of a tag with one HEAD. ok is false when
	// the upstream does not say; then Manifest must be asked.
	Resolve(ctx context.Context, repo policy.Repository, tag string) (d digest.Digest, ok bool, err error)
	// Blob fetches a small blob whole, at most max bytes, hashed and compared.
	Blob(ctx context.Context, repo policy.Repository, d digest.Digest, max int64) ([]byte, error)
	// Referrers fetches the pages of the referrers API, at most max bytes in all.
	// supported is false when the registry answered that it has none (404,
	// 405, 501, 400 or a 200 that is no index). truncated is true when the list went on beyond
	// the limits.
	Referrers(ctx context.Context, repo policy.Repository, d digest.Digest, max int64) (list Referrers, err error)
}

// Referrers is what a registry's referrers API answered.
type Referrers struct {
	Supported   bool
	Truncated   bool
	Descriptors []Descriptor
}

// Descriptor is an OCI content descriptor as far as the gate reads it.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// Manifest is bytes as an upstream sent them, with the digest computed here.
type Manifest struct {
	Bytes     []byte
	MediaType string        // the response's Content-Type without parameters
	Digest    digest.Digest // of Bytes: sha256, or the algorithm of the digest asked for
}

// UpstreamError is an upstream's failure, already translated into what the
// client may be told. Its text is for logs only.
type UpstreamError struct {
	// a 4xx or 501 as the upstream said; 502: broken or lying; 503: unreachable, timed out, any other 5xx
	Status     int
	RetryAfter string // the upstream's Retry-After, when it sent one
	HadAuth    bool   // credentials were configured for this upstream
	Host       string // familiar host of the upstream
	Err        error  // what happened, for logs
}

func (e *UpstreamError) Error() string {
	return fmt.Sprintf("upstream %s: %d: %v", e.Host, e.Status, e.Err)
}

func (e *UpstreamError) Unwrap() error { return e.Err }

// IsNotFound reports whether err is an upstream's plain 404.
func IsNotFound(err error) bool {
	var u *UpstreamError
	return errors.As(err, &u) && u.Status == 404
}

// ErrTooLarge is wrapped by a Registry's error when an answer has more bytes
// than it was asked for; none of them is returned.
var ErrTooLarge = errors.New("the answer is too large")

// ErrEnough is the cause of a context's end when a look-up is not needed any
// more, because another one has decided. The registry is not at fault.
var ErrEnough = errors.New("another look-up has decided")
