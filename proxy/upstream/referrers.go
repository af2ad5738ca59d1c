package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	maxPages  = 4
	indexType = "application/vnd.oci.image.index.v1+json"

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
	var list oci.Referrers
	at := u.at(repo, "referrers", d.String())
	for page := 0; ; page++ {
		if page == maxPages || limit <= 0 {
			list.Truncated = true
			return list, nil
		}

		resp, err := u.send(ctx, call{
			method:    http.MethodGet,
			url:       at,
			operation: operationReferrers,
			accept:    indexType,
			repo:      repo,
		}, http.StatusOK)
		if page == 0 && noReferrers(err) {
			return oci.Referrers{}, nil
		}
		if err != nil {
			return oci.Referrers{}, err
		}

		if page == 0 && mediaType(resp) != indexType { // an old registry's front page, or an error page with a 200
			discard(resp)
			return oci.Referrers{}, nil
		}

		found, size, err := u.descriptors(ctx, resp, limit)
		if page == 0 && errors.Is(err, errNoIndex) {
			return oci.Referrers{}, nil
		}
		if err != nil {
			return oci.Referrers{}, err
		}

		limit -= size
		list.Supported = true
		list.Descriptors = append(list.Descriptors, found...)

		next, more, err := u.next(at, resp)
		if err != nil {
			return oci.Referrers{}, err
		}
		if !more {
			return list, nil
		}
		at = next
	}
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
		Manifests *[]oci.Descriptor `json:"manifests"`
	}
	err = u.decode(ctx, b, &index)
	if ctx.Err() != nil {
		return nil, 0, err
	}
	if err != nil || index.Manifests == nil {
		return nil, 0, u.broken("%w", errNoIndex)
	}

	return *index.Manifests, int64(len(b)), nil
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

// linkNext is a Link header to the next page (RFC 8288, as far as registries use
// it).
var linkNext = regexp.MustCompile(`^\s*<([^<>\s]{1,1000})>\s*;\s*rel="?next"?\s*$`)

// next is the URL of the following page, which is on the same origin and under
// the same path. A registry that links to anything else is broken.
func (u *Upstream) next(at *url.URL, resp *http.Response) (*url.URL, bool, error) {
	link := ""
	for _, l := range resp.Header.Values("Link") {
		if strings.Contains(l, "next") { // there are other links, such as a CDN's preload
			link = l
		}
	}
	if link == "" {
		return nil, false, nil
	}

	match := linkNext.FindStringSubmatch(link)
	if match == nil {
		return nil, false, u.broken("its Link header is malformed")
	}

	next, err := at.Parse(match[1])
	if err != nil || !sameOrigin(next, u.base) || next.Path != at.Path || next.User != nil {
		return nil, false, u.broken("its next page is somewhere else")
	}

	return &url.URL{
		Scheme:   at.Scheme,
		Host:     at.Host,
		Path:     at.Path,
		RawQuery: next.RawQuery,
	}, true, nil
}
