package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxPages      = 4  // that list something
	maxEmptyPages = 12 // a registry that filters may have any number of them
	indexType     = "application/vnd.oci.image.index.v1+json"

	operationReferrers = "referrers"
)

var errNoIndex = errors.New("a page of its referrers is no index")

// Referrers implements verify.Registry (distribution, "Listing Referrers"). A
// registry without the API has none; it answers the first page in a way of its
// own. A later page that fails makes the whole list fail, because half a list
// could hide a signature.
func (u *Upstream) Referrers(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) (oci.Referrers, error) {
	list, next, err := u.ReferrersFrom(ctx, repo, d, "", limit)
	list.Truncated = list.Truncated || next != ""

	return list, err
}

// ReferrersFrom is Referrers from the page that query asks for, which is empty
// for the first one or the registry's own. next asks for what is left after so
// many pages or bytes as are read at once, and is empty when nothing is.
func (u *Upstream) ReferrersFrom(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	query string,
	limit int64,
) (list oci.Referrers, next string, err error) {
	at := u.at(repo, "referrers", d.String())
	at.RawQuery = query
	seen := map[string]bool{}
	for full, empty := 0, 0; ; {
		if full == maxPages || empty == maxEmptyPages || limit <= 0 {
			list.Truncated = query == "" && full+empty == 0
			return list, at.RawQuery, nil
		}
		if seen[at.RawQuery] { // a circle: all that it holds has been read
			list.Truncated = true
			return list, "", nil
		}
		seen[at.RawQuery] = true

		page, err := u.referrers(ctx, repo, at, limit)
		switch first := at.RawQuery == ""; {
		case first && (noReferrers(err) || errors.Is(err, errNoIndex)):
			return oci.Referrers{}, "", nil
		case !first && full+empty > 0 && errors.Is(err, oci.ErrTooLarge):
			return list, at.RawQuery, nil
		case err != nil:
			return oci.Referrers{}, "", err
		}

		list.Supported = true
		list.Descriptors = append(list.Descriptors, page.found...)
		if limit -= page.size; len(page.found) > 0 {
			full++
		} else {
			empty++
		}

		if page.next == "" {
			list.Truncated = page.circle
			return list, "", nil
		}
		at.RawQuery = page.next
	}
}

// referrersPage is one page of referrers.
type referrersPage struct {
	found []oci.Descriptor
	size  int64  // in bytes
	next  string // empty: the last one

	circle bool // the list would begin anew
}

// referrers asks for one page. The error for a page that is no index wraps
// errNoIndex.
func (u *Upstream) referrers(
	ctx context.Context,
	repo policy.Repository,
	at *url.URL,
	limit int64,
) (page referrersPage, err error) {
	resp, err := u.send(ctx, call{
		method:    http.MethodGet,
		url:       at,
		operation: operationReferrers,
		accept:    indexType,
		repo:      repo,
	}, http.StatusOK)
	if err != nil {
		return referrersPage{}, err
	}

	if at.RawQuery == "" && mediaType(resp) != indexType { // an old registry's front page, or an error page with a 200
		discard(resp)
		return referrersPage{}, u.broken("%w", errNoIndex)
	}

	page.found, page.size, err = u.descriptors(ctx, resp, limit)
	if err != nil {
		return referrersPage{}, err
	}
	page.next, err = u.next(at, resp)
	if errors.Is(err, errCircle) {
		page.circle, err = true, nil
	}

	return page, err
}

// descriptors reads a page of referrers, and returns its size in bytes with them.
// The error for a page that is no index wraps errNoIndex.
func (u *Upstream) descriptors(
	ctx context.Context,
	resp *http.Response,
	limit int64,
) (found []oci.Descriptor, size int64, err error) {
	b, err := u.read(ctx, resp, limit)
	if err != nil {
		return nil, 0, err
	}

	if tooManyParts(b) {
		return nil, 0, u.broken("%w: a page of referrers with more than %d parts", oci.ErrTooLarge, maxParts)
	}

	var index struct {
		Manifests listed `json:"manifests"`
	}
	err = u.decode(ctx, b, &index)
	if ctx.Err() != nil {
		return nil, 0, err
	}
	if err != nil || !index.Manifests.given {
		return nil, 0, u.broken("%w", errNoIndex)
	}

	return index.Manifests.descriptors, int64(len(b)), nil
}

// listed is the list of an index. Programs in Go write an empty one as null.
type listed struct {
	given       bool
	descriptors []oci.Descriptor
}

// UnmarshalJSON notes that the field is there, also as null.
func (l *listed) UnmarshalJSON(b []byte) error {
	l.given = true
	return json.Unmarshal(b, &l.descriptors)
}

// noReferrers reports whether err is the answer of a registry without the API.
func noReferrers(err error) bool {
	var e *oci.UpstreamError
	if !errors.As(err, &e) {
		return false
	}

	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
		return true
	}

	return false
}
