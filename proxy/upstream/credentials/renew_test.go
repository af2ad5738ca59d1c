package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}

// giver gives numbered passwords of one life, or an error.
type giver struct {
	clock *clock
	life  time.Duration
	hold  chan struct{} // if it is not nil, a renewal waits for it

	calls atomic.Int64
	fails atomic.Bool
}

func (g *giver) fetch(ctx context.Context) (lease, error) {
	n := g.calls.Add(1)
	if g.hold != nil {
		select {
		case <-g.hold:
		case <-ctx.Done():
			return lease{}, ctx.Err()
		}
	}
	if g.fails.Load() {
		return lease{}, errors.New("it is refused")
	}
	shown := Credentials{Username: testUser, Password: fmt.Sprintf("pass-%s-%d", mark, n)}
	return lease{shown: shown, until: g.clock.now().Add(g.life)}, nil
}

func renewed(g *giver) *renewing {
	r := newRenewing("registry.example", "role x", g.clock.now, g.fetch)
	r.spread = func() float64 { return 0 }
	return r
}

// settle waits until no renewal runs.
func settle(t *testing.T, r *renewing) {
	t.Helper()
	r.mu.Lock()
	running := r.running
	r.mu.Unlock()
	if running == nil {
		return
	}
	select {
	case <-running.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the renewal does not end")
	}
}

func wantNumber(t *testing.T, r *renewing, n int) {
	t.Helper()
	if got := mustGet(t, r).Password; got != fmt.Sprintf("pass-%s-%d", mark, n) {
		t.Errorf("got %s; want number %d", strings.ReplaceAll(got, mark, ""), n)
	}
}

// Long-lived credentials are renewed ten minutes ahead, short-lived ones after two
// thirds of their life, and some time before that, so that replicas part.
func TestRenewedAhead(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		life, kept    time.Duration
		spread        float64
		renewedBefore time.Duration // the end
	}{
		{"12 hours", 12 * time.Hour, 11*time.Hour + 49*time.Minute, 0, 10 * time.Minute},
		{"an hour", time.Hour, 49 * time.Minute, 0, 10 * time.Minute},
		{"5 minutes", 5 * time.Minute, 199 * time.Second, 0, 100 * time.Second},
		{"an hour, spread", time.Hour, 43 * time.Minute, 1, 16 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := &giver{clock: newClock(), life: tt.life}
			r := renewed(g)
			r.spread = func() float64 { return tt.spread }
			wantNumber(t, r, 1)

			g.clock.move(tt.kept)
			wantNumber(t, r, 1)
			settle(t, r)
			if n := g.calls.Load(); n != 1 {
				t.Fatalf("%d renewals after %v of %v", n-1, tt.kept, tt.life)
			}

			g.clock.move(tt.life - tt.renewedBefore - tt.kept)
			wantNumber(t, r, 1) // beside the renewal
			settle(t, r)
			wantNumber(t, r, 2)
		})
	}
}

// However many ask, before the first answer, at the time to renew and after the
// end, one renewal runs.
func TestOneRenewal(t *testing.T) {
	t.Parallel()
	g := &giver{clock: newClock(), life: time.Hour, hold: make(chan struct{})}
	r := renewed(g)
	ask := func() (all *sync.WaitGroup) {
		all = &sync.WaitGroup{}
		for range 50 {
			all.Go(func() {
				if _, err := r.Get(t.Context(), repo); err != nil {
					t.Error(err)
				}
			})
		}
		return all
	}

	first := ask()
	g.hold <- struct{}{}
	first.Wait()
	g.clock.move(55 * time.Minute)
	ask().Wait() // none of them waits for the renewal, which is held
	g.hold <- struct{}{}
	settle(t, r)
	g.clock.move(2 * time.Hour)
	last := ask()
	g.hold <- struct{}{}
	last.Wait()

	if n := g.calls.Load(); n != 3 {
		t.Errorf("%d renewals; want 3", n)
	}
}

// While a renewal fails, the old credentials are used to their end, and then there
// is an error that names whom the gate wanted to be. It is no answer for long.
func TestFailedRenewal(t *testing.T) {
	t.Parallel()
	g := &giver{clock: newClock(), life: time.Hour}
	r := renewed(g)
	wantNumber(t, r, 1)

	g.fails.Store(true)
	g.clock.move(51 * time.Minute)
	for range 20 {
		wantNumber(t, r, 1)
		settle(t, r)
	}
	if n := g.calls.Load(); n != 2 {
		t.Errorf("%d renewals; one that failed is tried again after %v", n, renewPause)
	}
	g.clock.move(renewPause)
	wantNumber(t, r, 1)
	settle(t, r)
	if n := g.calls.Load(); n != 3 {
		t.Errorf("%d renewals; want another after %v", n, renewPause)
	}

	g.clock.move(9 * time.Minute)
	for range 20 {
		got, err := r.Get(t.Context(), repo)
		wantError(t, err, "role x: it is refused")
		if identityOf(err) != "role x" || !got.Empty() {
			t.Errorf("%v, credentials %v", err, !got.Empty())
		}
	}
	if n := g.calls.Load(); n != 4 {
		t.Errorf("%d renewals; an error is said again for %v", n, renewPause)
	}

	g.fails.Store(false)
	g.clock.move(renewPause)
	wantNumber(t, r, 5)
}

// A registry's refusal has them renewed once, unless they are young, and one that
// fails costs nothing that is still good.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	g := &giver{clock: newClock(), life: 12 * time.Hour}
	r := renewed(g)
	wantNumber(t, r, 1)
	r.Refused()
	wantNumber(t, r, 1)

	g.clock.move(refusedAge)
	for range 5 {
		r.Refused()
		wantNumber(t, r, 2)
	}

	g.fails.Store(true)
	g.clock.move(refusedAge)
	for range 5 {
		r.Refused()
		wantNumber(t, r, 2)
	}
	if n := g.calls.Load(); n != 3 {
		t.Errorf("%d renewals; want 3", n)
	}
}

// One who leaves does not end the renewal of the others, and is told why.
func TestLeftRenewal(t *testing.T) {
	t.Parallel()
	g := &giver{clock: newClock(), life: time.Hour, hold: make(chan struct{})}
	r := renewed(g)
	reason := errors.New("the client left")
	ctx, leave := context.WithCancelCause(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := r.Get(ctx, repo)
		left <- err
	}()
	leave(reason)
	if err := <-left; !errors.Is(err, reason) {
		t.Errorf("%v; want the cause", err)
	}

	g.hold <- struct{}{}
	settle(t, r)
	wantNumber(t, r, 1)
}

// A clock that is wrong makes no pull fail: what ended before it was given is
// used for a minute.
func TestEndedWhenGiven(t *testing.T) {
	t.Parallel()
	g := &giver{clock: newClock(), life: -time.Hour}
	r := renewed(g)
	for range 10 {
		wantNumber(t, r, 1)
	}
	g.clock.move(endedLife)
	wantNumber(t, r, 2)
}

// What a library does not survive is an error of one renewal.
func TestPanickedRenewal(t *testing.T) {
	t.Parallel()
	r := newRenewing("registry.example", "role x", nil, func(context.Context) (lease, error) {
		panic("with " + mark)
	})
	_, err := r.Get(t.Context(), repo)
	wantError(t, err, "panicked")
}

// Nothing that prints a source prints what it holds.
func TestHeldUnprinted(t *testing.T) {
	t.Parallel()
	r := renewed(&giver{clock: newClock(), life: time.Hour})
	wantNumber(t, r, 1)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("held", "source", r)
	if text := fmt.Sprintf("%v %+v %#v %s", r, r, r, r) + logged.String(); strings.Contains(text, mark) {
		t.Error(text)
	}
}
