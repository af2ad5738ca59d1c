package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxResumes is how often one blob is asked for from where it was cut.
const maxResumes = 3

// resumingBody is a whole blob as it streams in. Where the connection is cut, the
// registry is asked for the rest, anew from the start, since a store's URL may
// have ended meanwhile. Which bytes come is for the reader to judge, who hashes
// the whole.
type resumingBody struct {
	up   *Upstream
	ctx  context.Context // of the request that the body belongs to
	call call
	body io.ReadCloser

	at, size int64 // bytes that came, and that will
	resumed  int64 // at, when the rest was asked for last; -1: never
	left     int   // times that it still may be
}

func (u *Upstream) resuming(ctx context.Context, c call, body io.ReadCloser, size int64) *resumingBody {
	return &resumingBody{
		up:      u,
		ctx:     ctx,
		call:    c,
		body:    body,
		size:    size,
		resumed: -1,
		left:    maxResumes,
	}
}

// Read implements io.Reader.
func (r *resumingBody) Read(b []byte) (int, error) {
	for {
		n, err := r.body.Read(b)
		r.at += int64(n)
		if err == nil || errors.Is(err, io.EOF) || r.at >= r.size || !r.resume() {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// Close implements io.Closer.
func (r *resumingBody) Close() error { return r.body.Close() }

// resume replaces the body by one with the rest, and reports whether it has. A
// registry that sends nothing more at a second attempt is not asked a third time.
func (r *resumingBody) resume() bool {
	if r.left == 0 || r.at == r.resumed || !r.up.mayRepeat(r.ctx, nil, firstRetry) {
		return false
	}
	r.left--
	r.resumed = r.at

	_ = r.body.Close() // gives its place in the line back
	r.body = http.NoBody
	select {
	case <-time.After(jittered(firstRetry)):
	case <-r.ctx.Done():
		return false
	}

	rest := r.call
	rest.handsOn = false // the client has begun to read
	rest.byteRange = "bytes=" + strconv.FormatInt(r.at, 10) + "-"
	resp, err := r.up.send(r.ctx, rest, http.StatusPartialContent)
	if err != nil {
		return false
	}
	got, err := checkRange(rest.byteRange, resp.Header.Get("Content-Range"), resp.ContentLength)
	if err != nil || got.last != r.size-1 || got.total >= 0 && got.total != r.size {
		_ = resp.Body.Close() // at once: it may be large
		return false
	}
	r.body = resp.Body
	return true
}
