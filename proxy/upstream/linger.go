package upstream

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxLingering = 16                     // requests to one registry whose answer is not needed any more
	lingerFor    = 500 * time.Millisecond // how long each of them runs on
)

// roundTrip sends a request whose caller may learn meanwhile that the answer is
// not needed: its context ends with oci.ErrEnough. The caller then returns at
// once, while the answer, if it comes soon and is short, is still read. Giving an
// HTTP/1.1 request up would close its connection, and the next pull would pay for
// a new one. Any other end of ctx ends the request. A lingering request holds no
// memory but a copy buffer, is counted apart, and ends with Close.
func (u *Upstream) roundTrip(
	ctx context.Context,
	t http.RoundTripper,
	req *http.Request,
	operation string,
) (*http.Response, error) {
	type answer struct {
		resp *http.Response
		err  error
	}

	detached, cancel := context.WithCancel(context.WithoutCancel(ctx))
	answers, ended := make(chan answer), make(chan struct{})
	go func() {
		defer close(ended)

		resp, err := u.obs.roundTrip(t, req.WithContext(detached), operation)
		select {
		case answers <- answer{resp, err}:
		case <-ctx.Done():
			if err == nil {
				discard(resp)
			}
		}
	}()

	select {
	case a := <-answers:
		context.AfterFunc(ctx, cancel) // the body is the caller's and ends with ctx
		return a.resp, a.err
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), oci.ErrEnough) {
			go u.linger(ended, cancel)
		} else {
			cancel()
		}

		return nil, ctx.Err()
	}
}

// linger lets a request run on for a while, unless too many others do.
func (u *Upstream) linger(ended <-chan struct{}, cancel context.CancelFunc) {
	defer cancel()

	select {
	case u.lingering <- struct{}{}:
		defer func() { <-u.lingering }()
	default:
		return
	}

	patience := time.NewTimer(u.lingerFor)
	defer patience.Stop()

	select {
	case <-ended:
	case <-patience.C:
	case <-u.open.Done():
	}

	cancel()
	<-ended
}
