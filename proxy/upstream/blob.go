package upstream

import (
	"context"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
)

// Blob implements verify.Registry.
func (u *Upstream) Blob(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error) {
	resp, err := u.send(ctx, call{
		method:    http.MethodGet,
		url:       u.at(repo, "blobs", d.String()),
		operation: "blobs",
		repo:      repo,
	}, http.StatusOK)
	if err != nil {
		return nil, err
	}

	b, err := u.read(ctx, resp, limit)
	if err != nil {
		return nil, err
	}

	return b, u.matches(d, b)
}

// BlobResponse is a blob, or a range of one, while it streams in. Its bytes are
// not hashed here.
type BlobResponse struct {
	Status        int    // 200 or 206
	ContentLength int64  // of this answer in bytes; -1 if the registry does not say
	Size          int64  // of the whole blob in bytes; -1 if the registry does not say
	ContentRange  string // of a 206, well-formed
	Body          io.ReadCloser
}

// OpenBlob starts to stream a blob from the registry, or from the store that it
// redirects to. method is GET or HEAD; byteRange is one byte range or empty. A
// range outside the blob is an oci.UpstreamError with Status 416. The caller
// closes Body.
func (u *Upstream) OpenBlob(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	method, byteRange string,
) (*BlobResponse, error) {
	wanted := []int{http.StatusOK}
	if byteRange != "" {
		wanted = append(wanted, http.StatusPartialContent)
	}

	resp, err := u.send(ctx, call{
		method:    method,
		url:       u.at(repo, "blobs", d.String()),
		operation: "blobs",
		byteRange: byteRange,
		repo:      repo,
	}, wanted...)
	if err != nil {
		return nil, err
	}

	b := &BlobResponse{
		Status:        resp.StatusCode,
		ContentLength: resp.ContentLength,
		Size:          resp.ContentLength,
		Body:          resp.Body,
	}
	if resp.StatusCode != http.StatusPartialContent {
		return b, nil
	}

	b.ContentRange = resp.Header.Get("Content-Range")
	b.ContentLength, b.Size, err = checkRange(byteRange, b.ContentRange, b.ContentLength)
	if err != nil {
		discard(resp)
		return nil, u.broken("%w", err)
	}

	return b, nil
}
