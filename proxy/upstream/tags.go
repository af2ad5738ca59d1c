package upstream

import (
	"context"
	"net/http"
	"net/url"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Tags lists a page of tags, in the registry's order. n and last are the
// spec's paging parameters, empty when not given; next holds those of the
// following page and is nil after the last one. At most limit bytes are read.
func (u *Upstream) Tags(
	ctx context.Context,
	repo policy.Repository,
	n, last string,
	limit int64,
) (tags []string, next url.Values, err error) {
	at := u.at(repo, "tags", "list")
	query := url.Values{}
	for key, value := range map[string]string{"n": n, "last": last} {
		if value != "" {
			query.Set(key, value)
		}
	}
	at.RawQuery = query.Encode()
	resp, err := u.send(ctx, ask{
		method:    http.MethodGet,
		url:       at,
		operation: "tags",
		accept:    "application/json",
		repo:      repo,
	}, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}
	b, err := u.read(ctx, resp, limit)
	if err != nil {
		return nil, nil, err
	}
	if tooManyParts(b) {
		return nil, nil, u.broken("%w: a page of more than %d tags; ask for fewer with n", oci.ErrTooLarge, maxParts)
	}
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := u.decode(ctx, b, &list); err != nil {
		if ctx.Err() != nil {
			return nil, nil, err
		}
		return nil, nil, u.broken("its list of tags is not JSON")
	}
	page, more, err := u.next(at, resp)
	if err != nil || !more {
		return list.Tags, nil, err
	}
	next = url.Values{}
	for _, key := range []string{"n", "last"} {
		if v := page.Query().Get(key); v != "" {
			next.Set(key, v)
		}
	}
	return list.Tags, next, nil
}
