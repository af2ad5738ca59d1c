package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	blobBuffer  = 32 << 10         // bytes; two per stream
	blobStalled = 60 * time.Second // without a byte from upstream, or without the client taking one
)

// truncatedError is a blob that turned out wrong after its first bytes had
// left. The connection is cut, so that no client takes the blob for whole.
type truncatedError struct{ err error }

func (t *truncatedError) Error() string { return t.err.Error() }
func (t *truncatedError) Unwrap() error { return t.err }

var errWrongBlob = errors.New("its bytes do not match the digest")

// verifyingReader reads a blob one buffer behind its source. It hands the last
// buffer out only after length and hash of the whole agree; a blob that turns
// out wrong therefore ends with an error and never with all of its bytes.
//
// It knows nothing of the client, so what it reads can also go into a file. It
// holds two buffers, which it allocates with the first read, and is for one
// goroutine.
type verifyingReader struct {
	source   io.Reader
	verifier digest.Verifier // nil: a part of a blob, which only the client can check
	length   int64           // bytes that must come; -1: not known

	came    int64  // bytes read from source
	ended   bool   // source is at its end, and length and hash agreed
	failed  error  // final
	spare   []byte // takes the next bytes
	held    []byte // waits for the bytes after it
	checked []byte // what Read has not handed out yet
}

// Read implements io.Reader. Its io.EOF means that the blob was right.
func (v *verifyingReader) Read(p []byte) (int, error) {
	if len(v.checked) == 0 {
		b, err := v.next()
		if err != nil {
			return 0, err
		}
		v.checked = b
	}
	n := copy(p, v.checked)
	v.checked = v.checked[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, which spares io.Copy a buffer and a copy of
// every byte.
func (v *verifyingReader) WriteTo(w io.Writer) (int64, error) {
	var written int64
	b := v.checked
	v.checked = nil

	for {
		if len(b) > 0 {
			n, err := w.Write(b)
			written += int64(n)
			if err != nil {
				return written, err
			}
		}

		var err error
		if b, err = v.next(); errors.Is(err, io.EOF) {
			return written, nil
		} else if err != nil {
			return written, err
		}
	}
}

// next returns the bytes that may be handed out now, until io.EOF. They are
// valid until the following call.
func (v *verifyingReader) next() ([]byte, error) {
	if v.spare == nil {
		v.spare, v.held = make([]byte, blobBuffer), make([]byte, 0, blobBuffer)
	}

	for v.failed == nil && !v.ended {
		came, err := v.fill()
		if err != nil {
			v.failed, v.held = err, nil
			break
		}
		ready := v.held
		v.held, v.spare = came, ready[:cap(ready)]
		if len(ready) > 0 {
			return ready, nil
		}
	}

	if v.failed != nil {
		return nil, v.failed
	}
	last := v.held
	v.held = nil
	if len(last) == 0 {
		return nil, io.EOF
	}
	return last, nil
}

// fill reads the next buffer and checks what can be checked so far: whether
// more came than was announced and, at the end, length and hash. That end may
// come with an empty buffer, while the blob's last bytes are still held.
func (v *verifyingReader) fill() ([]byte, error) {
	n, err := io.ReadFull(v.source, v.spare[:blobBuffer])
	if v.verifier != nil {
		_, _ = v.verifier.Write(v.spare[:n]) // a hash takes every write
	}
	v.came += int64(n)

	last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if err != nil && !last {
		return nil, fmt.Errorf("read from upstream: %w", err)
	}
	if v.length >= 0 && (v.came > v.length || last && v.came < v.length) {
		return nil, fmt.Errorf("%w: %d bytes came of %d", errWrongBlob, v.came, v.length)
	}
	if last && v.verifier != nil && !v.verifier.Verified() {
		return nil, errWrongBlob
	}

	v.ended = last
	return v.spare[:n], nil
}

// clientWriter writes to a client that must keep taking bytes: at least enough of
// them within each blobStalled, which begins anew when they are taken.
type clientWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	enough  int64 // bytes

	since time.Time // zero before the first write
	taken int64     // bytes since then
}

// newClientWriter is for a client that takes minRate bytes per second. What it
// has taken of the write under way is not known, so one buffer less is enough.
func newClientWriter(w http.ResponseWriter, minRate int64) *clientWriter {
	return &clientWriter{
		w:       w,
		control: http.NewResponseController(w),
		enough:  max(0, minRate*int64(blobStalled/time.Second)-blobBuffer),
	}
}

// Write implements io.Writer. It fails when the client is too slow.
func (c *clientWriter) Write(b []byte) (int, error) {
	if c.since.IsZero() || c.taken >= c.enough {
		c.since, c.taken = time.Now(), 0
		err := c.control.SetWriteDeadline(c.since.Add(blobStalled))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, fmt.Errorf("set deadline: %w", err)
		}
	}

	n, err := c.w.Write(b)
	c.taken += int64(n)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, fmt.Errorf("write to client, which took %d bytes in %s (limits.blobMinRate): %w",
			c.taken, blobStalled, err)
	case err != nil:
		return n, fmt.Errorf("write to client: %w", err)
	}
	return n, nil
}

// idleReader ends a source that sends nothing for blobStalled. The time counts
// only while a read waits: the client's slowness is not the upstream's.
type idleReader struct {
	source   io.Reader
	watchdog *time.Timer // cancels the source
}

func (i *idleReader) Read(b []byte) (int, error) {
	i.watchdog.Reset(blobStalled)
	n, err := i.source.Read(b)
	i.watchdog.Stop()
	return n, err
}
