package server

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// slowWriter takes what it is given only when told to.
type slowWriter struct {
	bytes.Buffer
	release chan struct{}
}

func (s *slowWriter) Write(b []byte) (int, error) {
	<-s.release
	return s.Buffer.Write(b)
}

func TestLogBuffer(t *testing.T) {
	t.Parallel()
	w := &slowWriter{release: make(chan struct{})}
	l := newLogBuffer(w)
	var writers sync.WaitGroup
	for n := range 8 {
		writers.Go(func() {
			for i := range 3000 {
				fmt.Fprintf(l, "%d/%d %s\n", n, i, strings.Repeat("x", 200)) // more than the buffer holds
			}
		})
	}
	close(w.release)
	writers.Wait()
	l.Close()
	seen := map[string]bool{}
	for line := range strings.Lines(w.String()) {
		name, rest, _ := strings.Cut(line, " ")
		if strings.TrimRight(rest, "\n") != strings.Repeat("x", 200) {
			t.Fatalf("a torn line: %.80q", line)
		}
		seen[name] = true
	}
	if len(seen) != 24000 {
		t.Errorf("%d lines of 24000", len(seen))
	}
}
