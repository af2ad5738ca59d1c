package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	// maxPause bounds what a registry's Retry-After may make the gate wait, which
	// then asks once more.
	maxPause = 5 * time.Minute
	// maxPauses bounds the pauses that are remembered.
	maxPauses = 1024
)

// pauses are what a registry's answers of 429 asked for. All that is asked of the
// registry obeys them, so that the limit is not spent by those who come after.
type pauses struct {
	mu    sync.Mutex
	until map[string]time.Time // by lane
}

// What is limited apart from the rest of a registry pauses apart.
const (
	registryLane = ""
	tokenLane    = "token"
)

// lane is which pause a call obeys: a limit on one repository's referrers does
// not stop its pulls.
func (c call) lane() string {
	if c.operation == operationReferrers {
		return referrersLane(c.repo)
	}
	return registryLane
}

func referrersLane(repo policy.Repository) string { return "referrers " + repo.Path }

// note begins a pause, if an answer's Retry-After asks for one.
func (p *pauses) note(lane, retryAfter string, now time.Time) {
	wait := waitOf(retryAfter, now)
	if wait <= 0 {
		return
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	if p.until == nil || len(p.until) >= maxPauses {
		p.until = map[string]time.Time{}
	}
	if until := now.Add(min(wait, maxPause)); until.After(p.until[lane]) {
		p.until[lane] = until
	}
}

// waitOf reads a Retry-After, which is a number of seconds or a date.
func waitOf(retryAfter string, now time.Time) time.Duration {
	seconds, err := strconv.ParseUint(retryAfter, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(retryAfter); err == nil {
		return at.Sub(now)
	}
	return 0
}

// left is how long a lane still pauses.
func (p *pauses) left(lane string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.until[lane].Sub(now)
}

// paused is the error of a call while its lane, or the whole registry, pauses;
// nil when it does not.
func (u *Upstream) paused(lane string) error {
	now := u.now()
	left := u.pauses.left(lane, now)
	if lane != tokenLane {
		left = max(left, u.pauses.left(registryLane, now))
	}
	if left <= 0 {
		return nil
	}

	why := fmt.Errorf("it was not asked: its Retry-After lasts for another %v", left)
	e := u.failure(http.StatusTooManyRequests, why)
	e.RetryAfter = strconv.Itoa(int(left/time.Second) + 1)
	return e
}

// limited is the error of an answer of 429 by the registry, or by its token
// realm; it begins the pause that the answer asks for.
func (u *Upstream) limited(lane string, resp *http.Response, err error) *oci.UpstreamError {
	e := u.failure(http.StatusTooManyRequests, err)
	e.RetryAfter = retryAfter(resp)
	u.pauses.note(lane, e.RetryAfter, u.now())
	return e
}
