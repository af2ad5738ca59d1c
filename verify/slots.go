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
	made, _ := g.perHost.LoadOrStore(host, make(chan struct{}, max(1, most/2)))
	share := made.(chan struct{})

	for _, slots := range []chan struct{}{share, g.inFlight} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if slots != share {
				<-share
			}
			return nil, unverified(
				fmt.Errorf("%d verdicts are being made already (limits.verdictsInFlight): %w", most, ctx.Err()),
			)
		}
	}

	leave := sync.OnceFunc(func() { <-g.inFlight; <-share })
	overdue := time.AfterFunc(g.givenUpAfter(), leave)
	return func() { overdue.Stop(); leave() }, nil
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
