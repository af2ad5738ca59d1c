package replicas

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

const (
	// youngAfter is the age of a shared store up to which other replicas may not
	// have noticed that it is a new one.
	youngAfter = 10 * time.Second

	completeWithin = 4 * time.Second
	completeEvery  = 100 * time.Millisecond
)

var (
	errYoung  = errors.New("the shared database is new, or was emptied: replicas are still writing what they know")
	errBehind = errors.New("another replica has not said that all it knows is written to the shared database")
)

// Others is what the other replicas of a gate have learned. An error means that
// they could not be asked. Safe for concurrent use.
type Others struct{ s *Store }

// Others returns what the other replicas have learned.
func (s *Store) Others() *Others { return &Others{s} }

// Parents lists the manifests that replicas have learned to list the part d.
func (o *Others) Parents(
	ctx context.Context,
	repo policy.Repository,
	kind facts.PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, err := o.s.shared.Parents(ctx, repo, kind, d)
	if errors.Is(err, postgres.ErrUnreadable) {
		o.Doubt()
	}
	return list, err
}

// Doubt has all replicas write again what they know, some time.
func (o *Others) Doubt() {
	select {
	case o.s.doubts <- struct{}{}:
	default:
	}
}

// Indexes lists the indexes that replicas have learned of.
func (o *Others) Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return o.s.shared.Indexes(ctx, repo)
}

// Evidence is what a replica has fetched of d within the life of a verdict before
// now.
func (o *Others) Evidence(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
) (facts.Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return o.s.shared.Evidence(ctx, repo, d, now, o.s.evidence)
}

// Complete returns nil when all that the other replicas had learned before it was
// called has been written to the shared store. It takes the moment until each of
// them has said so.
func (o *Others) Complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()

	r := o.s.checks.join(func() error { return o.s.complete() })
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// complete asks once for all who wait.
func (s *Store) complete() error {
	ctx, cancel := context.WithTimeout(context.Background(), completeWithin)
	defer cancel()

	first, err := s.beat(ctx, time.Time{})
	switch {
	case err != nil:
		return err
	case first.Age < youngAfter:
		return errYoung
	case first.Others == 0:
		return nil
	}

	for {
		select {
		case <-ctx.Done():
			return errBehind
		case <-time.After(completeEvery):
		}

		now, err := s.beat(ctx, first.At)
		switch {
		case ctx.Err() != nil:
			return errBehind
		case err != nil:
			return err
		case now.Identity != first.Identity:
			return errChanged
		case now.Behind == 0:
			return nil
		}
	}
}

// checks lets those who ask at the same time share an answer to a question that
// was put after they asked. The zero checks is ready.
type checks struct {
	mu            sync.Mutex
	running, next *check
}

type check struct {
	done chan struct{}
	err  error
}

// join returns a check that begins after join was called.
func (c *checks) join(run func() error) *check {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.running == nil {
		c.running = &check{done: make(chan struct{})}
		go c.run(run)
		return c.running
	}
	if c.next == nil {
		c.next = &check{done: make(chan struct{})}
	}
	return c.next
}

// run runs checks until no one waits for another.
func (c *checks) run(ask func() error) {
	for {
		c.mu.Lock()
		this := c.running
		c.mu.Unlock()

		this.err = ask()
		close(this.done)

		c.mu.Lock()
		c.running, c.next = c.next, nil
		again := c.running != nil
		c.mu.Unlock()
		if !again {
			return
		}
	}
}
