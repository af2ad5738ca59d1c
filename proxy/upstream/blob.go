package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
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
	ContentRange  string // of a 206, well-formed; its size is * if the registry does not say
	Last          int64  // position of a 206's last byte in the blob
	Body          io.ReadCloser

	// Location is where the registry has the blob fetched from, if that is handed
	// on: an absolute URL with nothing of the gate's in it. There is nothing else
	// in the answer then but an empty Body.
	Location string
}

// OpenBlob starts to stream a blob from the registry, or from the store that it
// redirects to. method is GET or HEAD; byteRange is one byte range or empty. A HEAD
// that is refused is asked as a GET, whose body is not read: many a store's
// redirect is signed for GET alone. A range outside the blob is an
// oci.UpstreamError with Status 416. The caller closes Body.
//
// Where redirects are handed on, a GET that the registry redirects is answered with
// a Location. A whole blob whose connection is cut is asked for from there on, so
// that its bytes may come from several answers.
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

	c := call{
		method:    method,
		url:       u.at(repo, "blobs", d.String()),
		operation: "blobs",
		byteRange: byteRange,
		repo:      repo,
		streams:   method == http.MethodGet,
		handsOn:   method == http.MethodGet && u.redirect,
	}
	if c.handsOn {
		wanted = append(wanted, http.StatusTemporaryRedirect)
	}
	resp, err := u.send(ctx, c, wanted...)
	if method == http.MethodHead && headSaysNothing(err) {
		c.method, c.streams = http.MethodGet, true
		if resp, err = u.send(ctx, c, wanted...); err == nil {
			_ = resp.Body.Close() // at once: the blob may be large
			resp.Body = http.NoBody
		}
	}
	if err != nil {
		return nil, err
	}

	if resp.StatusCode == http.StatusTemporaryRedirect {
		_ = resp.Body.Close()
		return &BlobResponse{Status: resp.StatusCode, Location: resp.Header.Get("Location"), Body: http.NoBody}, nil
	}

	b := &BlobResponse{
		Status:        resp.StatusCode,
		ContentLength: resp.ContentLength,
		Size:          resp.ContentLength,
		Body:          resp.Body,
	}
	if resp.StatusCode != http.StatusPartialContent {
		if c.byteRange == "" && b.Size > 0 && b.Body != http.NoBody {
			b.Body = u.resuming(ctx, c, b.Body, b.Size)
		}
		return b, nil
	}

	part, err := checkRange(byteRange, resp.Header.Get("Content-Range"), b.ContentLength)
	if err != nil {
		discard(resp)
		return nil, u.broken("%w", err)
	}
	b.ContentRange, b.ContentLength, b.Size, b.Last = part.String(), part.length(), part.total, part.last

	return b, nil
}

// headSaysNothing reports an error of a HEAD that GET need not have: any answer,
// but that there is no such blob, that the registry may not be asked so often, or
// that the range is outside the blob.
func headSaysNothing(err error) bool {
	var answered *oci.UpstreamError
	if !errors.As(err, &answered) || !answered.Answered {
		return false
	}
	return answered.Status != http.StatusNotFound &&
		answered.Status != http.StatusTooManyRequests &&
		answered.Status != http.StatusRequestedRangeNotSatisfiable
}
