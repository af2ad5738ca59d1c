package decisions

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// fullWriter takes some bytes and then no more, as a full disk does.
type fullWriter struct {
	bytes.Buffer
	left int
}

func (f *fullWriter) Write(b []byte) (int, error) {
	n, _ := f.Buffer.Write(b[:min(len(b), f.left)])
	f.left -= n
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

// TestStreamLoss: a stream says how many lines it lost, and memory keeps them.
func TestStreamLoss(t *testing.T) {
	t.Parallel()
	w := &fullWriter{left: 2500}
	s := &stream{w: w}
	lost, err := s.write(encoded(10))
	if whole := strings.Count(w.String(), "\n"); err == nil || lost != 10-whole || whole == 0 {
		t.Errorf("%d lost, %v, with %d whole lines written", lost, err, whole)
	}

	found, more, err := (Query{Limit: 4}).find(t.Context(), s.newest())
	if err != nil || !more || len(found) != 4 || found[0].ID != someRecord(9).ID {
		t.Errorf("memory has %d, %v, %v", len(found), more, err)
	}
}

// TestRecentBytes: memory holds a bounded number of lines.
func TestRecentBytes(t *testing.T) {
	t.Parallel()
	s := &stream{w: io.Discard}
	batch := encoded(1000)
	for range 50 {
		if lost, err := s.write(batch); lost != 0 || err != nil {
			t.Fatal(lost, err)
		}
	}
	if s.bytes > maxRecentBytes || s.bytes < maxRecentBytes/2 {
		t.Errorf("%d bytes are kept", s.bytes)
	}
}
