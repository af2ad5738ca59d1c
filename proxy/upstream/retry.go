package upstream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"time"
)

const (
	// maxRetries is how often one request is repeated.
	maxRetries = 2
	// firstRetry is about how long the first repetition waits; each further one
	// waits three times as long.
	firstRetry = 100 * time.Millisecond

	// A registry that fails altogether is not asked three times as much as one that
	// works: after retriesAtOnce, so many requests are repeated.
	retriesPerSecond = 10
	retriesAtOnce    = 30
)

// persist sends one request, and again where nothing of an answer has come but
// that the registry, or what stands before it, cannot give one now. A HEAD is not
// repeated: it is followed by a GET, whatever it fails with.
func (u *Upstream) persist(
	ctx context.Context,
	method string,
	send func() (*http.Response, error),
) (*http.Response, error) {
	wait := firstRetry
	for retries := 0; ; retries++ {
		resp, err := send()
		if method != http.MethodGet || retries == maxRetries || !passing(resp, err) {
			return resp, err
		}

		pause := jittered(wait)
		if !u.mayRepeat(ctx, resp, pause) {
			return resp, err
		}
		if err == nil {
			discard(resp)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		wait *= 3
	}
}

// mayRepeat reports whether a request may be sent again after a pause: within its
// deadline, not before its Retry-After, and not when too many are.
func (u *Upstream) mayRepeat(ctx context.Context, resp *http.Response, pause time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= 2*pause {
		return false
	}
	if resp != nil && waitOf(retryAfter(resp), time.Now()) > pause {
		return false
	}
	return u.again.Allow()
}

// jittered is between a half and one and a half of d, so that those who failed
// together do not come back together.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// passing reports failures that may be over in a moment: a connection that was
// cut before the answer, and what proxies and overloaded servers say.
func passing(resp *http.Response, err error) bool {
	if err != nil {
		return errors.Is(err, syscall.ECONNRESET) ||
			errors.Is(err, syscall.EPIPE) ||
			errors.Is(err, io.EOF) ||
			errors.Is(err, io.ErrUnexpectedEOF) ||
			strings.Contains(err.Error(), "http2: server sent GOAWAY") || // net/http has no names for these
			strings.Contains(err.Error(), "http2: client connection lost")
	}

	switch resp.StatusCode {
	case http.StatusRequestTimeout,
		http.StatusBadGateway,
		http.StatusServiceUnavailable,
		http.StatusGatewayTimeout:
		return true
	}
	return false
}
