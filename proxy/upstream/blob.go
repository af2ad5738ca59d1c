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
	resp, err := u.send(ctx, ask{
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

// BlobResponse is a blob, or a range of one, as it streams in. The bytes are
// not checked here.
type BlobResponse struct {
	Status        int    // 200 or 206
	ContentLength int64  // of this answer; -1: the registry does not say
	Size          int64  // of the whole blob; -1: the registry does not say
	ContentRange  string // of a 206, well-formed
	Body          io.ReadCloser
}

// OpenBlob starts a blob's way from the registry, or from the store it
// redirects to. method is GET or HEAD; byteRange is one byte range or empty. A
// range outside the blob is an UpstreamError with Status 416. The caller
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
	resp, err := u.send(ctx, ask{
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
	if resp.StatusCode == http.StatusPartialContent {
		b.ContentRange = resp.Header.Get("Content-Range")
		if b.ContentLength, b.Size, err = checkRange(byteRange, b.ContentRange, b.ContentLength); err != nil {
			discard(resp)
			return nil, u.broken("%w", err)
		}
	}
	return b, nil
}
