package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// DefaultConcurrency is how many requests one registry is sent at once.
const DefaultConcurrency = 128

// lineWait is how long a request waits for its turn, if its context does not end
// before: clients give up on an answer that has not begun after 30 s.
const lineWait = 10 * time.Second

var errLine = errors.New("as many requests to it are under way as may be (concurrency)")

// line bounds the requests to one registry that are under way, from the first
// byte sent to the last one read. Those that come then wait in the order of their
// arrival. A quarter is kept for blobs on their way to clients, which last, and a
// quarter for everything else, which is short: neither keeps the other waiting.
type line struct {
	all, blobs, others *semaphore.Weighted
}

func newLine(most int) *line {
	share := int64(most - max(1, most/4))
	return &line{
		all:    semaphore.NewWeighted(int64(most)),
		blobs:  semaphore.NewWeighted(max(1, share)),
		others: semaphore.NewWeighted(max(1, share)),
	}
}

// enter waits for the turn of c. leave must be called once its answer is read; a
// second call does nothing.
func (l *line) enter(ctx context.Context, c call) (leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lineWait, errLine)
	defer cancel()

	own := l.others
	if c.streams {
		own = l.blobs
	}
	for _, s := range []*semaphore.Weighted{own, l.all} {
		if s.Acquire(ctx, 1) != nil {
			if s == l.all {
				own.Release(1)
			}
			return nil, fmt.Errorf("wait for a turn: %w", context.Cause(ctx))
		}
	}
	return sync.OnceFunc(func() {
		l.all.Release(1)
		own.Release(1)
	}), nil
}

// leaveAtClose has an answer's place given back when its body is closed.
func leaveAtClose(resp *http.Response, leave func()) {
	resp.Body = &placedBody{ReadCloser: resp.Body, leave: leave}
}

type placedBody struct {
	io.ReadCloser
	leave func()
}

func (b *placedBody) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}
