package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// Blobs opens the blobs that clients are served, after the gate has admitted
// them. It must be safe for concurrent use.
type Blobs interface {
	// OpenBlob starts a blob's way to a client, and ends with ctx. Errors are
	// those of package upstream: an *oci.UpstreamError has Status 404 for a
	// blob that does not exist, 416 for a range outside of it, and 502 for one
	// of another size than was asked for.
	OpenBlob(ctx context.Context, q BlobQuery) (*Blob, error)
}

// BlobQuery names the bytes that a client wants.
type BlobQuery struct {
	Repository policy.Repository
	Digest     digest.Digest
	Size       int64  // of the whole blob, as a manifest lists it; 0: not known
	Method     string // GET or HEAD
	Range      string // one byte range as the header spells it; empty: the whole blob
}

// Blob is the answer to a BlobQuery.
type Blob struct {
	Status        int    // 200, 206, or 307
	ContentLength int64  // of this answer; -1: not known
	ContentRange  string // of a 206, well-formed
	Location      string // of a 307: an absolute URL, from which the client fetches the blob itself

	// Body is closed by the caller. After GET it ends with io.EOF only when
	// everything came that was announced and, for a whole blob, the hash
	// agrees; otherwise it ends with another error, before the last bytes.
	Body io.ReadCloser
}

// serveBlob judges a blob as a part of an admitted image, then streams it with
// constant memory.
func (x *exchange) serveBlob() error {
	m, v, err := x.snapshot.Gate.Blob(x.ctx, x.request.repo, x.request.ref.Digest, x.request.client)
	if err != nil {
		return err
	}
	if err := x.judged(v); err != nil {
		return err
	}
	if m.Bytes != nil { // a manifest asked for as a blob
		x.writeManifest(m, v)
		return nil
	}

	leave, err := x.streams.enter(x.ctx, x.request.client, x.snapshot.Streams)
	if err != nil {
		return err
	}
	defer leave()

	blob, err := x.openBlob(v)
	if err != nil {
		return err
	}
	defer blob.Body.Close()
	if blob.Location != "" {
		x.writeRedirect(blob, v)
		return nil
	}
	x.writeBlobHeader(blob, v)
	if x.method == http.MethodHead {
		return nil
	}

	client := newClientWriter(x.w, x.snapshot.Streams.MinRate)
	if _, err := io.Copy(client, blob.Body); err != nil {
		return &truncatedError{fmt.Errorf("stream blob %s of %s: %w", x.request.ref.Digest, x.request.repo, err)}
	}
	return nil
}

// openBlob asks for the blob that v admits.
func (x *exchange) openBlob(v verify.Verdict) (*Blob, error) {
	var blob *Blob
	err := x.snapshot.Gate.ChargeMiss(x.request.client, v, func() (err error) {
		opened := time.Now()
		blob, err = x.snapshot.blobs().OpenBlob(x.ctx, BlobQuery{
			Repository: x.request.repo,
			Digest:     x.request.ref.Digest,
			Size:       v.Size,
			Method:     x.method,
			Range:      x.request.rangeSpec,
		})
		x.obs.opening = time.Since(opened)
		return err
	})
	if oci.IsNotFound(err) {
		return nil, &httpError{
			status:  http.StatusNotFound,
			code:    "BLOB_UNKNOWN",
			message: x.request.repo.Host + " does not have it",
		}
	}
	return blob, err
}

func (x *exchange) writeBlobHeader(blob *Blob, v verify.Verdict) {
	h := x.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", x.request.ref.Digest.String())
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Content-Type-Options", "nosniff")
	if blob.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(blob.ContentLength, 10))
	}
	if blob.ContentRange != "" {
		h.Set("Content-Range", blob.ContentRange)
	}
	x.setDecision()
	x.setWarning(v)
	x.w.WriteHeader(blob.Status)
}

// writeRedirect sends the client to where the registry has the blob. Such a URL
// ends soon, and lets its bearer in: no cache may keep it.
func (x *exchange) writeRedirect(blob *Blob, v verify.Verdict) {
	x.obs.redirected = true

	h := x.w.Header()
	h.Set("Location", blob.Location)
	h.Set("Docker-Content-Digest", x.request.ref.Digest.String())
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", "0")
	x.setDecision()
	x.setWarning(v)
	x.w.WriteHeader(http.StatusTemporaryRedirect)
}
