package replicas

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

const (
	beatEvery   = 500 * time.Millisecond
	beatTimeout = 2 * time.Second
	firstAnswer = 2 * time.Second // waited for at the start
	lastWords   = 2 * time.Second // at the end
	lateWrite   = 5 * time.Second // for a write that no pull waits for

	sweepEvery = time.Hour

	// doubtEvery is how often this replica has all others write again what they
	// know, at most: what is wrong may be so for good.
	doubtEvery = 10 * time.Minute
)

// keepInTouch tells the others that this replica is there, writes what waits, and
// writes everything again when the shared store may have lost it.
func (s *Store) keepInTouch(ctx context.Context) {
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	walked := make(chan error, 1)
	walking := false
	var doubted time.Time

	for {
		select {
		case <-ctx.Done():
			if walking {
				<-walked //nolint:errcheck // no one asks any more
			}
			return
		case <-ticker.C:
			s.pulse(ctx)
		case <-s.queue.some:
		case <-s.doubts:
			if doubted.IsZero() || time.Since(doubted) > doubtEvery {
				doubted = time.Now()
				s.renew(ctx)
			}
		case err := <-walked:
			walking = false
			s.endWalk(err)
		}

		if s.isAway() {
			continue
		}
		_ = s.drain(ctx) // what is left is tried after the next pulse
		if identity, ok := s.beginWalk(); ok && !walking {
			walking = true
			go func() { walked <- s.writeAll(ctx, identity) }()
		}
	}
}

// renew makes the shared store a new one for all replicas, which write what they
// know to it.
func (s *Store) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	s.log.Warn("the shared database names what is not so: all replicas write again what they know")
	if err := s.shared.Renew(ctx); err != nil {
		s.log.Warn("the shared database could not be renewed", "error", bounded(err))
	}
}

// pulse is one beat.
func (s *Store) pulse(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	_, _ = s.beat(ctx, time.Time{}) // noted
}

// beat tells the others what this replica claims, and notes what it finds.
func (s *Store) beat(ctx context.Context, since time.Time) (postgres.Pulse, error) {
	p, err := s.shared.Beat(ctx, s.claim(), since)
	s.note(ctx, p, err)
	return p, err
}

// claim is what this replica may say of itself: as of the last beat, because this
// one may be slow on its way.
func (s *Store) claim() postgres.Claim {
	waiting := s.queue.len()

	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting > 0 || s.walk || s.whole != s.identity {
		return postgres.Claim{}
	}
	return postgres.Claim{Whole: s.whole, AsOf: s.beaten}
}

// note draws the consequences of a beat.
func (s *Store) note(ctx context.Context, p postgres.Pulse, err error) {
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()

	if err != nil {
		if !s.away {
			s.log.Warn(
				"the shared database does not answer: what this gate knows itself is served",
				"error",
				bounded(err),
			)
		}
		s.away = true
		return
	}
	if s.away {
		s.log.Info("the shared database answers again")
	}
	s.away = false
	s.beaten = p.At

	if p.Identity == s.identity {
		return
	}
	if s.identity != "" {
		s.log.Warn("the shared database may have lost facts: what this gate knows is written again")
		s.shared.Forget()
	}
	s.identity = p.Identity
	s.walk = s.whole != p.Identity
}

// bounded is an error's text for the log: the database may be anyone's.
func bounded(err error) string {
	text := err.Error()
	return text[:min(len(text), 300)]
}

func (s *Store) isAway() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away || s.identity == ""
}

// drain writes what waits, the oldest first, until one fact cannot be written.
func (s *Store) drain(ctx context.Context) error {
	for {
		f, ok := s.queue.first()
		if !ok {
			break
		}
		if err := s.write(ctx, f); err != nil {
			return err
		}
		s.queue.written(f)
	}

	if s.queue.lostSome() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.walk = true
		s.whole = ""
	}
	return nil
}

// write writes one fact that no pull waits for. One that the database will never
// take is left out.
func (s *Store) write(ctx context.Context, f facts.Fact) error {
	ctx, cancel := context.WithTimeout(ctx, lateWrite)
	defer cancel()

	_, err := s.shared.Learn(ctx, f)
	if postgres.IsRefused(err) {
		s.log.Error("the shared database refuses a fact", "manifest", f.Manifest.Digest.String(), "error", bounded(err))
		return nil
	}
	return err
}

// beginWalk reports whether everything is to be written, and to which store.
func (s *Store) beginWalk() (identity string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity, s.walk
}

// writeAll writes all that is known here to the store of that identity.
func (s *Store) writeAll(ctx context.Context, identity string) error {
	err := s.own.Each(ctx, func(f facts.Fact) error { return s.write(ctx, s.worthTelling(f)) })
	if err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity != identity {
		return errChanged
	}
	s.whole = identity
	s.walk = false
	return nil
}

var errChanged = errors.New("the shared database has changed meanwhile")

// sweep has the shared store forget what is old, some time in every hour.
func (s *Store) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery/2 + rand.N(sweepEvery)):
		}
		if err := s.shared.Sweep(ctx, s.maxBytes); err != nil && !s.isAway() && ctx.Err() == nil {
			s.log.Warn("the shared database could not be swept", "error", bounded(err))
		}
	}
}

// endWalk says what became of a walk; one that failed begins anew after the next
// pulse.
func (s *Store) endWalk(err error) {
	if err != nil && !errors.Is(err, errChanged) && !errors.Is(err, postgres.ErrOpen) &&
		!errors.Is(err, context.Canceled) {
		s.log.Warn("not all that this gate knows could be written to the shared database", "error", bounded(err))
	}
}
