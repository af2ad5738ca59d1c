package upstream

import (
	"context"
	"errors"
	"net/http"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Tags returns a page of repo's tags in the registry's order. query asks for one
// page: it is empty for the first, or holds n and last of distribution's
// specification, or is next of the page before, which is the registry's own and
// handed back as it came. next is empty after the last page. At most limit bytes
// are read.
func (u *Upstream) Tags(
	ctx context.Context,
	repo policy.Repository,
	query string,
	limit int64,
) (tags []string, next string, err error) {
	at := u.at(repo, "tags", "list")
	at.RawQuery = query

	resp, err := u.send(ctx, call{
		method:    http.MethodGet,
		url:       at,
		operation: "tags",
		accept:    "application/json",
		repo:      repo,
	}, http.StatusOK)
	if err != nil {
		return nil, "", err
	}

	tags, err = u.tags(ctx, resp, limit)
	if err != nil {
		return nil, "", err
	}
	next, err = u.next(at, resp)
	if errors.Is(err, errCircle) && len(tags) == 0 { // so some end a list
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}

	return tags, next, nil
}

// tags reads a page of tags.
func (u *Upstream) tags(ctx context.Context, resp *http.Response, limit int64) ([]string, error) {
	b, err := u.read(ctx, resp, limit)
	if err != nil {
		return nil, err
	}

	if tooManyParts(b) {
		return nil, u.broken("%w: a page of more than %d tags; ask for fewer with n", oci.ErrTooLarge, maxParts)
	}

	var list struct {
		Tags []*string `json:"tags"`
	}
	if err := u.decode(ctx, b, &list); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}

		return nil, u.broken("its list of tags is not JSON")
	}

	var tags []string
	for _, tag := range list.Tags {
		if tag != nil { // Nexus lists null now and then
			tags = append(tags, *tag)
		}
	}

	return tags, nil
}
