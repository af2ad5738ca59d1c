package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

// maxParts bounds what JSON can cost in memory, which is far more than its
// bytes: an answer with more commas, braces and brackets than this is not parsed.
const maxParts = 200_000

const (
	maxDiscarded    = 16 << 10 // bytes of an unneeded body that are read
	discardPatience = 50 * time.Millisecond
)

// read reads a body of at most limit bytes into memory, and closes it.
func (u *Upstream) read(ctx context.Context, resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()

	select {
	case u.reads <- struct{}{}:
		defer func() { <-u.reads }()
	case <-ctx.Done():
		return nil, u.fail(ctx, ctx.Err())
	}

	if resp.ContentLength > limit {
		return nil, u.broken("%w: %d bytes where at most %d may be", oci.ErrTooLarge, resp.ContentLength, limit)
	}

	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, u.fail(ctx, fmt.Errorf("read answer: %w", err))
	}

	if int64(len(b)) > limit {
		return nil, u.broken("%w: more than %d bytes", oci.ErrTooLarge, limit)
	}

	return b, nil
}

// matches compares bytes with the digest by which they were asked for.
func (u *Upstream) matches(d digest.Digest, b []byte) error {
	if err := oci.CheckDigest(d); err != nil {
		return err
	}

	if got := d.Algorithm().FromBytes(b); got != d {
		return u.broken("asked for %s it sent %s", d, got)
	}

	return nil
}

func tooManyParts(b []byte) bool {
	parts := bytes.Count(b, []byte(",")) + bytes.Count(b, []byte("{")) + bytes.Count(b, []byte("["))
	return parts > maxParts
}

// decode parses an answer. Few answers are parsed at once; the others wait, until
// ctx ends.
func (u *Upstream) decode(ctx context.Context, b []byte, into any) error {
	select {
	case u.parses <- struct{}{}:
		defer func() { <-u.parses }()
	case <-ctx.Done():
		return u.fail(ctx, ctx.Err())
	}

	return json.Unmarshal(b, into)
}

// discard reads the short rest of a body, so that its connection can be used
// again, and closes it. A server that drips the rest out is not waited for.
func discard(resp *http.Response) {
	patience := time.AfterFunc(discardPatience, func() { _ = resp.Body.Close() })
	_, _ = io.CopyN(io.Discard, resp.Body, maxDiscarded) // the content is not needed
	patience.Stop()

	_ = resp.Body.Close()
}
