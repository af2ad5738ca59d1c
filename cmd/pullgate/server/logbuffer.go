package server

import (
	"io"
	"sync"
	"time"
)

// logBuffer lets requests log without waiting for the disk or the pipe: what
// they write within two milliseconds, or while a write is under way, goes out
// together. A writer that cannot keep up makes them wait, so that no line is
// dropped. What has been taken is out a moment later; a process that is killed
// loses at most that moment. Its methods are safe for concurrent use.
type logBuffer struct {
	w io.Writer

	mu      sync.Mutex
	changed *sync.Cond // something to write, something written, or closing
	taken   []byte
	busy    bool
	closing bool
	ended   chan struct{}
}

const (
	logBufferBytes = 1 << 20
	enough         = 64 << 10             // bytes that are written without waiting for more
	linger         = 2 * time.Millisecond // a write for every line would cost more than the line
)

func newLogBuffer(w io.Writer) *logBuffer {
	l := &logBuffer{w: w, ended: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	go l.run()
	return l
}

// Write takes one line whole. It never fails: a failure could not be logged.
func (l *logBuffer) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	for len(l.taken) > logBufferBytes && !l.closing {
		l.changed.Wait()
	}

	l.taken = append(l.taken, line...)
	if !l.busy {
		l.changed.Broadcast()
	}
	return len(line), nil
}

func (l *logBuffer) run() {
	defer close(l.ended)
	var out []byte
	l.mu.Lock()
	defer l.mu.Unlock()

	for {
		for len(l.taken) == 0 && !l.closing {
			l.changed.Wait()
		}
		if len(l.taken) == 0 {
			return
		}

		if !l.closing && len(l.taken) < enough {
			l.busy = true
			l.mu.Unlock()
			time.Sleep(linger)
			l.mu.Lock()
		}

		out, l.taken, l.busy = l.taken, out[:0], true
		l.mu.Unlock()
		_, _ = l.w.Write(out) // without standard error, a failure has no place to be told
		l.mu.Lock()
		l.busy = false
		l.changed.Broadcast()
	}
}

// Close writes what was taken.
func (l *logBuffer) Close() {
	l.mu.Lock()
	l.closing = true
	l.changed.Broadcast()
	l.mu.Unlock()
	<-l.ended
}
