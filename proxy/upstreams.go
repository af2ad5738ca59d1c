package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/verify/oci"
)

// Upstreams are the configured registries.
type Upstreams struct{ *upstream.Registries }

// registry is the one of a repository, whose host was looked up when the request
// was parsed.
func (u Upstreams) registry(repo policy.Repository) (upstream.Registry, error) {
	found, ok := u.Find(repo.Host)
	if !ok {
		return nil, fmt.Errorf("no upstream is configured for %s", repo.Host)
	}
	return found, nil
}

// OpenBlob implements Blobs for repositories whose host is configured: it
// fetches the blob from there and hashes it on its way.
func (u Upstreams) OpenBlob(ctx context.Context, q BlobQuery) (*Blob, error) {
	ctx, cancel := context.WithCancel(ctx)
	watchdog := time.AfterFunc(blobStalled, cancel)
	sent, err := u.askBlob(ctx, q)
	watchdog.Stop() // from here on, it runs while a read waits
	if err != nil {
		cancel()
		return nil, err
	}
	if sent.Location != "" {
		_ = sent.Body.Close() // it is empty
		cancel()
		return &Blob{Status: sent.Status, Location: sent.Location, Body: http.NoBody}, nil
	}

	body := &fetchedBody{
		closer:  sent.Body,
		cancel:  cancel,
		patient: idleReader{source: sent.Body, watchdog: watchdog},
	}
	body.source, body.length = &body.patient, sent.ContentLength
	if !fits(sent, q.Size) {
		_ = body.Close()
		return nil, &oci.UpstreamError{
			Status: http.StatusBadGateway,
			Host:   q.Repository.Host,
			Err:    fmt.Errorf("blob %s has %d bytes there, its manifest says %d", q.Digest, sent.Size, q.Size),
		}
	}

	if body.length < 0 && q.Size > 0 {
		body.length = q.Size
	}
	contentRange := sent.ContentRange
	if q.Size > 0 && sent.Size < 0 {
		contentRange = strings.Replace(contentRange, "/*", "/"+strconv.FormatInt(q.Size, 10), 1)
	}
	if q.Method != http.MethodHead && whole(sent.Status, contentRange) {
		body.verifier = q.Digest.Verifier()
	}
	return &Blob{
		Status:        sent.Status,
		ContentLength: body.length,
		ContentRange:  contentRange,
		Body:          body,
	}, nil
}

// askBlob asks the registry for a blob. A HEAD that says another size than the
// manifest is asked as a GET: some answer it with a length of 0.
func (u Upstreams) askBlob(ctx context.Context, q BlobQuery) (*upstream.BlobResponse, error) {
	registry, err := u.registry(q.Repository)
	if err != nil {
		return nil, err
	}
	sent, err := registry.OpenBlob(ctx, q.Repository, q.Digest, q.Method, q.Range)
	if err != nil || q.Method != http.MethodHead || fits(sent, q.Size) {
		return sent, err
	}

	_ = sent.Body.Close() // it is empty
	sent, err = registry.OpenBlob(ctx, q.Repository, q.Digest, http.MethodGet, q.Range)
	if err != nil {
		return nil, err
	}
	_ = sent.Body.Close() // at once: the blob may be large
	sent.Body = http.NoBody
	return sent, nil
}

// fits reports whether an answer agrees with the size that a manifest lists, 0 if
// none does.
func fits(sent *upstream.BlobResponse, size int64) bool {
	if size <= 0 || sent.Size >= 0 {
		return size <= 0 || sent.Size == size
	}
	return sent.Last < size
}

// fetchedBody is a blob from upstream, checked as it is read.
type fetchedBody struct {
	verifyingReader
	patient idleReader // its source
	closer  io.Closer
	cancel  context.CancelFunc // of the request to the upstream
}

// Close ends the request, also before the blob has come whole.
func (f *fetchedBody) Close() error {
	err := f.closer.Close()
	f.cancel()
	return err
}

// whole reports whether the answer carries every byte of the blob, so that its
// hash can be checked: a 200, or the 206 for "bytes=0-".
func whole(status int, contentRange string) bool {
	if status == http.StatusOK {
		return true
	}
	span, size, ok := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 || first != "0" {
		return false
	}
	total, err := strconv.ParseInt(size, 10, 64)
	return err == nil && last == strconv.FormatInt(total-1, 10)
}
