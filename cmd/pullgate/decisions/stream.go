package decisions

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
)

// stream writes lines to a stream, and keeps the newest in memory.
type stream struct {
	w io.Writer
	recent
}

func (s *stream) write(batch []entry) (lost int, err error) {
	s.keep(batch)

	var all bytes.Buffer
	for _, e := range batch {
		all.Write(e.line)
	}

	n, err := s.w.Write(all.Bytes())
	if err == nil {
		return 0, nil
	}
	whole := bytes.Count(all.Bytes()[:n], []byte("\n"))
	return len(batch) - whole, fmt.Errorf("write decisions to standard output: %w", err)
}

func (s *stream) close() error { return nil }

// maxRecentBytes bounds the lines in memory where no file keeps them.
const maxRecentBytes = 8 << 20

// recent is the newest lines, for GET /decisions where there is no file to read.
type recent struct {
	mu    sync.Mutex
	lines [][]byte
	bytes int
}

func (r *recent) keep(batch []entry) {
	r.mu.Lock()
	defer r.mu.Unlock()

	for _, e := range batch {
		r.lines = append(r.lines, bytes.Clone(e.line))
		r.bytes += len(e.line)
	}

	old := 0
	for r.bytes > maxRecentBytes {
		r.bytes -= len(r.lines[old])
		old++
	}
	if old > 0 {
		r.lines = slices.Delete(r.lines, 0, old)
	}
}

func (r *recent) newest() iter.Seq2[[]byte, error] {
	r.mu.Lock()
	lines := slices.Clone(r.lines)
	r.mu.Unlock()

	return func(yield func([]byte, error) bool) {
		for _, line := range slices.Backward(lines) {
			if !yield(line, nil) {
				return
			}
		}
	}
}
