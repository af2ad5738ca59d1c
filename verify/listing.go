package verify

import (
	"fmt"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// ClosedError says that no image of a repository could be admitted, so that
// nothing of it is listed either (403 DENIED).
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
	if g.CouldAllow(repo, client) {
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
	perMinute := g.quota.perMinute
	if client.Addr != "" && perMinute > 0 && g.quota.of(client.Addr).TokensAt(g.config.Now()) < float64(perMinute)/2+.5 {
		return &QuotaError{Wait: time.Minute / time.Duration(perMinute)}
	}
	return g.Spend(client)
}
