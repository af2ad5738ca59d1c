package verify

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// enter waits until another verdict may be made. One upstream's share is half
// of them: one that stalls does not stop the verdicts of all others. A verdict
// that is given up leaves its place, too.
func (g *Gate) enter(ctx context.Context, host string) (done func(), err error) {
	most := g.config.Limits.VerdictsInFlight
	share, forget := g.perHost.share(host, max(1, most/2))

	for _, slots := range []chan struct{}{share, g.inFlight} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if slots != share {
				<-share
			}
			forget()
			return nil, unverified(
				fmt.Errorf("%d verdicts are being made already (limits.verdictsInFlight): %w", most, ctx.Err()),
			)
		}
	}

	leave := sync.OnceFunc(func() { <-g.inFlight; <-share; forget() })
	overdue := time.AfterFunc(g.givenUpAfter(), leave)
	return func() { overdue.Stop(); leave() }, nil
}

// shares are the upstreams' shares of the verdicts that are made. A share is there
// while it is in use or waited for: clients may name any number of hosts that a
// wildcard stands for.
type shares struct {
	mu     sync.Mutex
	byHost map[string]*hostShare
}

type hostShare struct {
	slots chan struct{}
	users int
}

// share is that of host, of so many slots. forget must be called once, when the
// slot is given back or was not taken.
func (s *shares) share(host string, size int) (slots chan struct{}, forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.byHost == nil {
		s.byHost = map[string]*hostShare{}
	}
	own := s.byHost[host]
	if own == nil {
		own = &hostShare{slots: make(chan struct{}, size)}
		s.byHost[host] = own
	}
	own.users++

	return own.slots, func() {
		s.mu.Lock()
		defer s.mu.Unlock()

		if own.users--; own.users == 0 {
			delete(s.byHost, host)
		}
	}
}

// slot does work that costs CPU. The slot is held until the work has really
// ended, whatever becomes of ctx.
func (g *Gate) slot(ctx context.Context, work func() error) error {
	select {
	case g.crypto <- struct{}{}:
		defer func() { <-g.crypto }()
		return work()
	case <-ctx.Done():
		return ctx.Err()
	}
}
