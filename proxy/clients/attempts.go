package clients

import (
	"context"
	"sync"
	"time"
)

const (
	maxGuesses  = 10              // wrong passwords of one network at once
	guessAgain  = 2 * time.Second // for each further one
	maxWait     = 5 * time.Second // for a turn; clients then hear within 20 s
	maxWaiting  = 512             // requests, of all networks
	maxNetworks = 10_000
)

// attempts slows down those who guess passwords. Each password that is tried
// takes one of its network's guesses and gives it back when it was right, so
// that a fleet behind one address can log in at once, and what is wrong costs
// time. Its methods are safe for concurrent use.
type attempts struct {
	now func() time.Time

	mu       sync.Mutex
	networks map[string]*guesses
	waiting  int
}

// guesses are those of one network.
type guesses struct {
	wrong   float64 // that count still
	at      time.Time
	trying  int
	changed chan struct{} // closed when one more may be tried
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, networks: map[string]*guesses{}}
}

// begin waits until a password from network may be tried. The caller says how it
// went by done. The error is a *BusyError.
func (a *attempts) begin(ctx context.Context, network string) (done func(right bool), err error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	a.mu.Lock()
	defer a.mu.Unlock()

	for {
		g := a.of(network)
		if g.wrong+float64(g.trying) < maxGuesses {
			g.trying++
			return func(right bool) { a.done(g, right) }, nil
		}

		// What is over is over by less than one guess when nothing is tried now.
		wait := time.Duration((g.wrong + float64(g.trying) - maxGuesses + 1) * float64(guessAgain))
		if a.waiting >= maxWaiting || !a.await(ctx, g.changed, wait) {
			return nil, &BusyError{Wait: wait}
		}
	}
}

// await waits for a change or for a time, and reports whether ctx lasts.
func (a *attempts) await(ctx context.Context, changed <-chan struct{}, wait time.Duration) bool {
	a.waiting++
	a.mu.Unlock()
	timer := time.NewTimer(min(wait, guessAgain))
	defer func() {
		timer.Stop()
		a.mu.Lock()
		a.waiting--
	}()

	select {
	case <-changed:
		return true
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *attempts) done(g *guesses, right bool) {
	a.mu.Lock()
	defer a.mu.Unlock()

	g.age(a.now())
	g.trying--
	if !right {
		g.wrong++
		return
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// of is the guesses of a network as of now, while a is locked.
func (a *attempts) of(network string) *guesses {
	now := a.now()
	g := a.networks[network]
	if g == nil {
		if len(a.networks) >= maxNetworks {
			a.forget(now)
		}
		g = &guesses{at: now, changed: make(chan struct{})}
		a.networks[network] = g
	}
	g.age(now)
	return g
}

// forget makes room: those without a guess that counts first, else all.
func (a *attempts) forget(now time.Time) {
	for network, g := range a.networks {
		if g.age(now); g.wrong == 0 && g.trying == 0 {
			delete(a.networks, network)
		}
	}
	if len(a.networks) >= maxNetworks {
		clear(a.networks)
	}
}

func (g *guesses) age(now time.Time) {
	if since := now.Sub(g.at); since > 0 {
		g.wrong = max(0, g.wrong-float64(since)/float64(guessAgain))
		g.at = now
	}
}
