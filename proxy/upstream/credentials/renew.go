package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pullgate/pullgate/policy"
)

const (
	// renewTimeout bounds one renewal: a client waits for a manifest for some 20 s.
	renewTimeout = 12 * time.Second

	// renewPause is how soon a renewal is tried again after one that failed.
	renewPause = 5 * time.Second

	// renewAhead is how long before their end long-lived credentials are renewed;
	// short-lived ones are renewed after two thirds of their life.
	renewAhead = 10 * time.Minute

	// refusedAge is how old credentials are before a registry's refusal makes the
	// gate ask for others: younger ones were good, and the registry means something
	// else by it.
	refusedAge = time.Minute

	// endedLife is how long credentials are used that have ended, by this machine's
	// clock, when they are given: it is the clock that is wrong.
	endedLife = time.Minute
)

// lease is what a service has given: credentials, and when they end.
type lease struct {
	shown Credentials
	until time.Time
}

// renewing is a source whose credentials end. They are renewed ahead by one
// flight, beside which the old ones are used until their end.
type renewing struct {
	host     string // of the registry, for the log
	identity string // whom the gate wants to be
	fetch    func(context.Context) (lease, error)
	now      func() time.Time
	spread   func() float64 // from 0 to 1, so that replicas do not renew at once
	timeout  time.Duration  // of one renewal

	mu      sync.Mutex
	held    lease
	begun   time.Time // when held was asked for
	renewAt time.Time // held is renewed from then on
	refused bool      // the registry did not take held
	again   time.Time // no renewal begins before
	err     error     // of the last renewal
	running *renewal
}

// renewal is one flight, for all who wait for it.
type renewal struct {
	done  chan struct{}
	shown Credentials
	err   error
}

func newRenewing(
	host, identity string,
	now func() time.Time,
	fetch func(context.Context) (lease, error),
) *renewing {
	if now == nil {
		now = time.Now
	}

	return &renewing{
		host:     host,
		identity: identity,
		fetch:    fetch,
		now:      now,
		spread:   rand.Float64,
		timeout:  renewTimeout,
	}
}

// Get returns credentials that have not ended. It waits for a renewal only when
// there are none, or when the registry has refused those that are held.
func (r *renewing) Get(ctx context.Context, _ policy.Repository) (Credentials, error) {
	r.mu.Lock()

	now := r.now()
	held, valid := r.held.shown, now.Before(r.held.until)
	paused := r.running == nil && now.Before(r.again)

	if valid && !r.refused || valid && paused {
		if !paused && !now.Before(r.renewAt) {
			r.begin(ctx, now)
		}
		r.mu.Unlock()
		return held, nil
	}
	if paused {
		defer r.mu.Unlock()
		return Credentials{}, r.err
	}

	flight := r.begin(ctx, now)
	r.mu.Unlock()

	select {
	case <-flight.done:
	case <-ctx.Done():
		return Credentials{}, context.Cause(ctx)
	}
	if flight.err != nil && valid {
		return held, nil
	}
	return flight.shown, flight.err
}

// Configured is true.
func (*renewing) Configured() bool { return true }

// Refused makes the next Get renew what is held, unless it is too young to have
// ended.
func (r *renewing) Refused() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.refused = r.refused || r.now().Sub(r.begun) >= refusedAge
}

// begin begins a renewal, or returns the one that runs. No caller's leaving ends
// it. The caller holds the lock.
func (r *renewing) begin(ctx context.Context, now time.Time) *renewal {
	if r.running != nil {
		return r.running
	}

	flight := &renewal{done: make(chan struct{})}
	r.running = flight
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
		defer cancel()

		got, err := r.try(ctx)
		r.end(flight, now, got, err)
	}()
	return flight
}

// try is fetch; a panic in a service's library is an error.
func (r *renewing) try(ctx context.Context) (got lease, err error) {
	defer func() {
		if recover() != nil { // its value is not said: it may hold a secret
			err = errors.New("the library panicked")
		}
	}()

	return r.fetch(ctx)
}

// end notes what a renewal that began at a time has come to.
func (r *renewing) end(flight *renewal, began time.Time, got lease, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(flight.done)

	r.running, r.refused = nil, false
	if err != nil {
		r.fail(err)
		flight.err = r.err
		return
	}

	if !got.until.After(began) {
		got.until = began.Add(endedLife)
	}
	life := got.until.Sub(began)
	spread := time.Duration(r.spread() * float64(life) / 10)

	r.held, r.begun = got, began
	r.renewAt = began.Add(max(life*2/3, life-renewAhead) - spread)
	r.again, r.err = time.Time{}, nil
	flight.shown = got.shown
}

// fail notes that a renewal failed. The caller holds the lock.
func (r *renewing) fail(err error) {
	if identityOf(err) == "" {
		err = &Failure{Identity: r.identity, Err: err}
	}

	now := r.now()
	r.err, r.again = err, now.Add(renewPause)
	if now.Before(r.held.until) {
		slog.Warn(
			"upstream credentials could not be renewed; the old ones are used until they end",
			"upstream", r.host,
			"until", r.held.until.UTC().Format(time.RFC3339),
			"error", err,
		)
	}
}

// Format keeps what is held out of logs and errors.
func (r *renewing) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "[credentials of %s]", r.identity)
}
