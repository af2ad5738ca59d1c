package server

import (
	"io"
	"sync"
	"time"
)

// logBuffer lets requests log without waiting for the disk or the pipe: what
// they write within two milliseconds, or while a write is under way, goes out
// together. A writer that cannot keep up makes them wait, so that no line is
// lost; one that has stalled does not: its lines are dropped and counted, because
// pulls matter more than their lines. What has been taken is out a moment later;
// a process that is killed loses at most that moment. Its methods are safe for
// concurrent use.
type logBuffer struct {
	w    io.Writer
	told func(lost int) []byte // the line about lines that were lost

	mu      sync.Mutex
	changed *sync.Cond // something to write, something written, stalled, or closing
	taken   []byte
	busy    bool
	writes  int  // that have begun
	stalled bool // the last of them has been under way for stalledAfter
	lost    int  // lines, since the last that went out
	closing bool
	ended   chan struct{}
}

const (
	logBufferBytes = 1 << 20
	enough         = 64 << 10             // bytes that are written without waiting for more
	linger         = 2 * time.Millisecond // a write for every line would cost more than the line
	stalledAfter   = time.Second          // of one write
	logCloseTime   = 5 * time.Second
)

// newLogBuffer writes to w. After lines were lost, what told returns goes out.
func newLogBuffer(w io.Writer, told func(lost int) []byte) *logBuffer {
	l := &logBuffer{w: w, told: told, ended: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	go l.run()
	return l
}

// Write takes one line whole. It never fails: a failure could not be logged.
func (l *logBuffer) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	for len(l.taken) > logBufferBytes && !l.stalled && !l.closing {
		l.changed.Wait()
	}
	if len(l.taken) > logBufferBytes && l.stalled {
		l.lost++
		return len(line), nil
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
		l.writeUnlocked(out)
		l.busy = false
		l.changed.Broadcast()
	}
}

// writeUnlocked writes without l.mu, which is held before and after, and notes
// meanwhile whether the writer has stalled. A writer that has come back is told
// of the lines it lost.
func (l *logBuffer) writeUnlocked(out []byte) {
	l.writes++
	this := l.writes
	watchdog := time.AfterFunc(stalledAfter, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stalled = l.busy && l.writes == this
		l.changed.Broadcast()
	})

	l.mu.Unlock()
	_, _ = l.w.Write(out) // without standard error, a failure has no place to be told
	watchdog.Stop()
	l.mu.Lock()

	l.stalled = false
	if l.lost > 0 {
		l.taken = append(l.taken, l.told(l.lost)...)
		l.lost = 0
	}
}

// Close writes what was taken, for logCloseTime at most.
func (l *logBuffer) Close() {
	l.mu.Lock()
	l.closing = true
	l.changed.Broadcast()
	l.mu.Unlock()

	select {
	case <-l.ended:
	case <-time.After(logCloseTime):
	}
}
