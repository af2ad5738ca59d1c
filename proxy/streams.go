package proxy

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// streamWait is how long a request for a blob waits for another one to end. With
// limits.verifyTimeout before it, clients still hear within 20 s.
const streamWait = 5 * time.Second

// StreamLimits bounds the blobs that are on their way to clients: each holds a
// connection to an upstream. The zero value lets no blob through.
type StreamLimits struct {
	All     int   // at once
	Client  int   // at once, of one client
	MinRate int64 // bytes per second, over a minute; a slower client is cut off
}

// streams counts the blobs under way. A request beyond the limits waits for its
// turn, for streamWait at most, and no more wait than may be under way. Its
// methods are safe for concurrent use.
type streams struct {
	mu       sync.Mutex
	underWay tally
	waiting  tally
	queue    []*turn // in the order of their arrival; none of them has room
}

// tally is a number of requests, in all and by the client's network.
type tally struct {
	all     int
	clients map[string]int
}

func (t *tally) add(client string, n int) {
	t.all += n
	if t.clients[client] += n; t.clients[client] == 0 {
		delete(t.clients, client)
	}
}

// full reports whether one more would be too many, and if so, whether they are
// the client's own.
func (t *tally) full(client string, l StreamLimits) (full, own bool) {
	own = t.clients[client] >= l.Client
	return own || t.all >= l.All, own
}

// turn is a request that waits.
type turn struct {
	client string
	limits StreamLimits
	came   chan struct{} // closed when it is under way
}

func newStreams() *streams {
	return &streams{
		underWay: tally{clients: map[string]int{}},
		waiting:  tally{clients: map[string]int{}},
	}
}

// enter waits until one more blob may be on its way to client. leave must be
// called when the blob has ended.
func (s *streams) enter(ctx context.Context, client policy.Client, l StreamLimits) (leave func(), err error) {
	network := client.Network()
	leave = func() { s.leave(network) }

	s.mu.Lock()
	full, own := s.underWay.full(network, l)
	if !full {
		s.underWay.add(network, 1)
		s.mu.Unlock()
		return leave, nil
	}
	if full, _ := s.waiting.full(network, l); full {
		s.mu.Unlock()
		return nil, tooManyStreams(own, l)
	}
	t := &turn{client: network, limits: l, came: make(chan struct{})}
	s.queue = append(s.queue, t)
	s.waiting.add(network, 1)
	s.mu.Unlock()

	patience := time.NewTimer(streamWait)
	defer patience.Stop()
	select {
	case <-t.came:
		return leave, nil
	case <-patience.C:
		err = tooManyStreams(own, l)
	case <-ctx.Done():
		err = fmt.Errorf("wait for other blobs to end: %w", ctx.Err())
	}

	if !s.giveUp(t) { // its turn came just now
		leave()
	}
	return nil, err
}

// giveUp takes t out of the queue, and reports whether it was still there.
func (s *streams) giveUp(t *turn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	at := slices.Index(s.queue, t)
	if at < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, at, at+1)
	s.waiting.add(t.client, -1)
	return true
}

// leave ends a blob of a client's, and begins the first that has room now.
func (s *streams) leave(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay.add(client, -1)

	for at, t := range s.queue {
		if full, _ := s.underWay.full(t.client, t.limits); full {
			continue
		}

		s.queue = slices.Delete(s.queue, at, at+1)
		s.waiting.add(t.client, -1)
		s.underWay.add(t.client, 1)
		close(t.came)
		return
	}
}

// tooManyStreams is the answer to a request whose turn did not come. own says
// that the client's other blobs are why.
func tooManyStreams(own bool, l StreamLimits) *httpError {
	if own {
		return &httpError{
			status:     http.StatusTooManyRequests,
			code:       "TOOMANYREQUESTS",
			message:    fmt.Sprintf("this client has %d blobs under way (limits.clientBlobStreams)", l.Client),
			retryAfter: "5",
		}
	}
	return &httpError{
		status:     http.StatusServiceUnavailable,
		code:       "UNAVAILABLE",
		message:    "the gate has as many blobs under way as it may (limits.blobStreams); try again shortly",
		retryAfter: "5",
	}
}
