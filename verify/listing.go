package verify

import (
	"fmt"

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
	half := float64(g.quota.perMinute)/2 + .5
	if g.limited(client) && !g.quota.has(client.Addr, half, g.config.Now()) {
		return g.quota.soon()
	}
	return g.Spend(client)
}
