package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	blobBuffer  = 32 << 10         // bytes; two per stream
	blobStalled = 60 * time.Second // without a byte from upstream, or without the client taking one
)

// cutOff is a blob that turned out wrong after its first bytes had left: the
// connection is cut, so that no client takes it for whole.
type cutOff struct{ err error }

func (c *cutOff) Error() string { return c.err.Error() }
func (c *cutOff) Unwrap() error { return c.err }

// serveBlob judges a blob as a part of an admitted image, then streams it from
// upstream with constant memory.
func serveBlob(s *Snapshot, w http.ResponseWriter, r *http.Request, req request, seen *observation) error {
	d := req.ref.Digest
	m, v, err := s.Gate.Blob(seen.ctx, req.repo, d, req.client)
	if err != nil {
		return err
	}
	seen.verdict(v)
	if !v.Admitted() {
		return denied(v, seen.id)
	}
	if m.Bytes != nil { // a manifest asked for as a blob
		writeManifest(w, r, m, v, seen)
		return nil
	}
	if err := s.Gate.Exhausted(req.client); err != nil && v.Size == 0 {
		return err // by 404s, below: of a blob that a manifest lists nobody asks in vain
	}
	ctx, cancel := context.WithCancel(seen.ctx)
	defer cancel()
	watchdog := time.AfterFunc(blobStalled, cancel)
	defer watchdog.Stop()
	up := s.Upstreams[req.repo.Host]
	opened := time.Now()
	blob, err := up.OpenBlob(ctx, req.repo, d, r.Method, req.rangeSpec)
	seen.opening = time.Since(opened)
	if oci.IsNotFound(err) {
		if err := s.Gate.Spend(req.client); err != nil {
			return err
		}
		return &answer{status: http.StatusNotFound, code: "BLOB_UNKNOWN", message: req.repo.Host + " does not have it"}
	}
	if err != nil {
		return err
	}
	defer blob.Body.Close()
	if v.Size > 0 && blob.Size >= 0 && blob.Size != v.Size {
		return &oci.UpstreamError{
			Status: http.StatusBadGateway, Host: req.repo.Host,
			Err: fmt.Errorf("blob %s has %d bytes there, its manifest says %d", d, blob.Size, v.Size),
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Content-Type-Options", "nosniff")
	if blob.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(blob.ContentLength, 10))
	}
	if blob.ContentRange != "" {
		h.Set("Content-Range", blob.ContentRange)
	}
	seen.setDecision(w)
	setWarning(w, v)
	w.WriteHeader(blob.Status)
	if r.Method == http.MethodHead {
		return nil
	}
	length := blob.ContentLength
	if length < 0 && v.Size > 0 {
		length = v.Size
	}
	out := &stream{
		w:        w,
		length:   length,
		body:     &watched{blob.Body, watchdog},
		control:  http.NewResponseController(w),
		watchdog: watchdog,
	}
	if whole(blob.Status, blob.ContentRange) {
		out.verifier = d.Verifier()
	}
	if err := out.copy(); err != nil {
		return &cutOff{fmt.Errorf("stream blob %s of %s: %w", d, req.repo, err)}
	}
	return nil
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

// stream copies a blob one buffer behind: the last one leaves only when the
// whole agrees with the digest.
type stream struct {
	w        http.ResponseWriter
	body     io.Reader
	control  *http.ResponseController
	watchdog *time.Timer
	verifier digest.Verifier // nil: a part of a blob, which only the client can check
	length   int64           // bytes that must come; -1: nobody knows
}

var errWrongBlob = errors.New("its bytes do not match the digest")

func (s *stream) copy() error {
	held, next := make([]byte, 0, blobBuffer), make([]byte, blobBuffer)
	for came := int64(0); ; {
		n, err := io.ReadFull(s.body, next[:blobBuffer])
		if s.verifier != nil {
			_, _ = s.verifier.Write(next[:n]) // a hash takes every write
		}
		came += int64(n)
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return fmt.Errorf("read from upstream: %w", err)
		}
		if s.length >= 0 && (came > s.length || last && came < s.length) {
			return fmt.Errorf("%w: %d bytes came of %d", errWrongBlob, came, s.length)
		}
		if last && s.verifier != nil && !s.verifier.Verified() {
			return errWrongBlob // before what is held leaves: this read may have been empty
		}
		if werr := s.write(held); werr != nil {
			return werr
		}
		held, next = next[:n], held[:cap(held)]
		if last {
			return s.write(held)
		}
	}
}

func (s *stream) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if err := s.control.SetWriteDeadline(
		time.Now().Add(blobStalled),
	); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("set deadline: %w", err)
	}
	_, err := s.w.Write(b)
	s.watchdog.Reset(blobStalled) // the client's slowness is not the upstream's
	if err != nil {
		return fmt.Errorf("write to client: %w", err)
	}
	return nil
}

// watched is a body whose every byte shows that the upstream is alive.
type watched struct {
	io.Reader
	watchdog *time.Timer
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.watchdog.Reset(blobStalled)
	}
	return n, err
}

// refusesAll answers listings of a repository that no policy could ever admit.
func refusesAll(s *Snapshot, req request) error {
	if s.Gate.CouldAllow(req.repo, req.client) {
		return nil
	}
	v := verify.Verdict{Image: req.repo, Policy: s.Gate.PolicyName(req.repo, req.client)}
	return &answer{
		status: http.StatusForbidden,
		code:   "DENIED",
		message: fmt.Sprintf(
			"%s refused by policy %q: no policy could admit an image of this repository",
			v.Image,
			v.Policy,
		),
	}
}
