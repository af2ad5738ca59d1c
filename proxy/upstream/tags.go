package upstream

import (
	"context"
	"net/http"
	"net/url"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Tags returns a page of repo's tags in the registry's order. n and last are the
// paging parameters of distribution's specification, empty if not given; next
// holds those of the following page and is nil after the last one. At most limit
// bytes are read.
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

	resp, err := u.send(ctx, call{
		method:    http.MethodGet,
		url:       at,
		operation: "tags",
		accept:    "application/json",
		repo:      repo,
	}, http.StatusOK)
	if err != nil {
		return nil, nil, err
	}

	tags, err = u.tags(ctx, resp, limit)
	if err != nil {
		return nil, nil, err
	}

	page, more, err := u.next(at, resp)
	if err != nil || !more {
		return tags, nil, err
	}

	next = url.Values{}
	for _, key := range []string{"n", "last"} {
		if v := page.Query().Get(key); v != "" {
			next.Set(key, v)
		}
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
		Tags []string `json:"tags"`
	}
	if err := u.decode(ctx, b, &list); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}

		return nil, u.broken("its list of tags is not JSON")
	}

	return list.Tags, nil
}
