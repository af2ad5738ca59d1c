package server

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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
	l := newLogBuffer(w, nil)
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

// A reader that has stalled costs log lines, never pulls; when it reads again, it
// is told how many.
func TestStalledLogReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &slowWriter{release: make(chan struct{})}
		l := newLogBuffer(w, func(lost int) []byte { return fmt.Appendf(nil, "%d lost\n", lost) })
		line := strings.Repeat("x", 1<<10) + "\n"

		const lines = 5000 // of a KiB each
		start := time.Now()
		var writers sync.WaitGroup
		for range 10 {
			writers.Go(func() {
				for range lines / 10 {
					_, _ = l.Write([]byte(line))
				}
			})
		}
		writers.Wait()
		if took := time.Since(start); took > 2*stalledAfter {
			t.Errorf("requests waited %s", took)
		}
		start = time.Now()
		l.Write([]byte(line))
		if took := time.Since(start); took != 0 {
			t.Errorf("a later request waited %s", took)
		}

		close(w.release)
		synctest.Wait()
		time.Sleep(time.Second)
		l.Write([]byte("afterwards\n"))
		l.Close()
		text := w.String()
		var lost int
		told := text[strings.LastIndex(strings.TrimSuffix(text, " lost\nafterwards\n"), "\n")+1:]
		if n, err := fmt.Sscanf(told, "%d lost\nafterwards\n", &lost); n != 1 || err != nil {
			t.Fatalf("it ends with %q", told)
		}
		if written := strings.Count(text, line); written+lost != lines+1 || lost == 0 {
			t.Errorf("%d lines were written and %d lost, of %d", written, lost, lines+1)
		}
	})
}

// pausingWriter takes its time for each write.
type pausingWriter struct {
	bytes.Buffer
	pause time.Duration
}

func (p *pausingWriter) Write(b []byte) (int, error) {
	time.Sleep(p.pause)
	return p.Buffer.Write(b)
}

// A reader that reads slowly loses nothing, and one that never reads does not
// keep the gate from ending.
func TestLogReaders(t *testing.T) {
	t.Parallel()
	t.Run("slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &pausingWriter{pause: stalledAfter - time.Millisecond}
			l := newLogBuffer(w, func(int) []byte { t.Error("lines were lost"); return nil })
			for range 5000 {
				_, _ = l.Write([]byte(strings.Repeat("x", 1<<10) + "\n"))
			}
			l.Close()
			if n := strings.Count(w.String(), "\n"); n != 5000 {
				t.Errorf("%d lines of 5000", n)
			}
		})
	})

	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &slowWriter{release: make(chan struct{})}
			l := newLogBuffer(w, nil)
			_, _ = l.Write([]byte("x\n"))
			synctest.Wait()
			time.Sleep(time.Second)
			start := time.Now()
			l.Close()
			if took := time.Since(start); took != logCloseTime {
				t.Errorf("closing took %s", took)
			}
			close(w.release)
		})
	})
}
