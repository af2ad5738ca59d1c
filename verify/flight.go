package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pullgate/pullgate/verify/judge"
)

// hangingPerVerdict bounds the work that was given up and has not ended, for
// each of limits.verdictsInFlight. Beyond it nothing new begins.
const hangingPerVerdict = 16

var (
	errGivenUp     = fmt.Errorf("it did not end in time and was given up: %w", context.DeadlineExceeded)
	errManyHanging = errors.New("too many look-ups hang that were given up; restart the gate if that does not end")
)

// coalesce runs work once for all questions that ask for key at the same time.
// The work has the gate's own deadline: a client that leaves does not cancel it
// for the others, and what it returns may not depend on one client's quota.
func coalesce[T any](ctx context.Context, q *question, key string, work func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	start := time.Now()
	defer func() { q.waited += time.Since(start) }()

	results := q.flights.DoChan(key, func() (any, error) {
		return q.fly(context.WithoutCancel(ctx), func(ctx context.Context) (any, error) { return work(ctx) })
	})

	var none T
	select {
	case <-ctx.Done():
		return none, fmt.Errorf("wait for %s: %w", q.repo, ctx.Err())
	case r := <-results:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil
	}
}

// fly runs work within the gate's deadline. Work that ignores the deadline is
// given up, so that the next question begins anew: one look-up that hangs must
// not keep an image from being asked for again.
func (g *Gate) fly(ctx context.Context, work func(context.Context) (any, error)) (any, error) {
	if g.hanging.Load() >= int64(hangingPerVerdict*g.config.Limits.VerdictsInFlight) {
		return nil, errManyHanging
	}
	ctx, cancel := context.WithTimeout(ctx, g.config.Limits.VerifyTimeout)

	var result any
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- judge.Guard(func() (err error) {
			result, err = work(ctx)
			return err
		})
	}()

	overdue := time.NewTimer(g.givenUpAfter())
	defer overdue.Stop()
	select {
	case err := <-ended:
		return result, err
	case <-overdue.C:
		g.hanging.Add(1)
		go func() {
			_ = <-ended // no question waits for it any more
			g.hanging.Add(-1)
		}()
		return nil, errGivenUp
	}
}

// givenUpAfter is somewhat longer than work may take: what is late by a moment
// has more to say than that it is late.
func (g *Gate) givenUpAfter() time.Duration {
	return g.config.Limits.VerifyTimeout + g.config.Limits.VerifyTimeout/8
}
