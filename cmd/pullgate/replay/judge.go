package replay

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// atOnce bounds the images that are judged at the same time.
const atOnce = 8

// Judge returns the verdict about an image for a client now. It must be safe for concurrent use.
type Judge func(ctx context.Context, name policy.Image, client policy.Client) (verify.Verdict, error)

// Judge asks about every image once, and tells progress after each. An image
// about which the judge could not tell is no error.
func (h *History) Judge(ctx context.Context, judge Judge, progress func(done, of int)) error {
	var finished atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)

	for _, i := range h.images {
		group.Go(func() error {
			i.now, i.err = h.judgeOne(ctx, judge, i)
			progress(int(finished.Add(1)), len(h.images))
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("judge recorded images: %w", err)
	}
	return nil
}

// judgeOne asks as a runtime would: for the index first, whose admission lets its
// parts in.
func (h *History) judgeOne(ctx context.Context, judge Judge, i *image) (verify.Verdict, error) {
	var undecided error
	for _, parent := range h.above(i) {
		if _, err := judge(ctx, i.name.At(parent), i.client); err != nil {
			undecided = fmt.Errorf("ask for %s, which it is a part of: %w", parent, err)
		}
	}

	v, err := judge(ctx, i.name, i.client)
	if err == nil && !v.Admitted() && undecided != nil { // the parent might have let it in
		return verify.Verdict{}, undecided
	}
	return v, err
}
