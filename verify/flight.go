package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/pullgate/pullgate/verify/judge"
)

// coalesce runs work once for all questions that ask for key at the same time.
// The work has the gate's own deadline: a client that leaves does not cancel it
// for the others.
func coalesce[T any](ctx context.Context, q *question, key string, work func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	start := time.Now()
	defer func() { q.waited += time.Since(start) }()

	results := q.flights.DoChan(key, func() (result any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.config.Limits.VerifyTimeout)
		defer cancel()
		err = judge.Guard(func() (err error) {
			result, err = work(ctx)
			return err
		})
		return result, err
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
