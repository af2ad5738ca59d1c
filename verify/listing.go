package verify

import (
	"fmt"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// ClosedError says that no policy for a repository could admit an image of it,
// so that nothing of it is listed either (403 DENIED).
type ClosedError struct {
	Repository policy.Repository
	Policy     string // name of the policy that decides
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("%s refused by policy %q: no policy could admit an image of this repository",
		e.Repository, e.Policy)
}

// Listable decides whether client may be told what repo holds: its tags, and
// what refers to its images. Nil means that it may; the error is a *ClosedError.
func (g *Gate) Listable(repo policy.Repository, client policy.Client) error {
	if g.Opens(repo, client) {
		return nil
	}
	return &ClosedError{
		Repository: repo,
		Policy:     g.policyOfAll(repo, client).Name,
	}
}

// SpendListing takes one of a client's questions to upstreams for a page of a
// listing. Half of the questions are left for its pulls, so that a client that
// follows a list without end can still pull. The error is a *QuotaError.
func (g *Gate) SpendListing(client policy.Client) error {
	if !g.limited(client) {
		return nil
	}
	if !g.quota.has(client.Addr, float64(g.quota.perMinute)/2+.5, g.config.Now()) {
		return &QuotaError{Wait: time.Minute / time.Duration(g.quota.perMinute)}
	}
	return g.Spend(client)
}
