package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/pullgate/pullgate/verify/judge"
)

// fly runs work a single time for everybody who asks for key meanwhile. It
// runs under the gate's own deadline: one client's leaving cancels nobody.
func fly[T any](ctx context.Context, q *question, key string, work func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithDeadline(ctx, q.deadline)
	defer cancel()
	start := time.Now()
	defer func() { q.waited += time.Since(start) }()
	made := q.flights.DoChan(key, func() (made any, err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), q.config.Limits.VerifyTimeout)
		defer cancel()
		err = judge.Guard(func() (err error) {
			made, err = work(ctx)
			return err
		})
		return made, err
	})
	var none T
	select {
	case <-ctx.Done():
		return none, fmt.Errorf("wait for %s: %w", q.repo, ctx.Err())
	case r := <-made:
		if r.Err != nil {
			return none, r.Err
		}
		return r.Val.(T), nil
	}
}
