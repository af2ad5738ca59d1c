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

// Referrers implements verify.Registry: distribution spec, "Listing Referrers".
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
		resp, err := u.send(ctx, ask{
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
		b, err := u.read(ctx, resp, limit)
		if err != nil {
			return oci.Referrers{}, err
		}
		limit -= int64(len(b))
		if tooManyParts(b) {
			return oci.Referrers{}, u.broken(
				"%w: a page of referrers with more than %d parts",
				oci.ErrTooLarge,
				maxParts,
			)
		}
		var index struct {
			Manifests *[]oci.Descriptor `json:"manifests"`
		}
		err = u.decode(ctx, b, &index)
		if ctx.Err() != nil {
			return oci.Referrers{}, err
		}
		if err != nil || index.Manifests == nil {
			if page == 0 {
				return oci.Referrers{}, nil // no index after all
			}
			return oci.Referrers{}, u.broken("a page of its referrers is no index")
		}
		list.Supported = true
		list.Descriptors = append(list.Descriptors, *index.Manifests...)
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

// noReferrers are the answers of a registry without the API.
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

// RFC 8288, as far as registries use it.
var linkNext = regexp.MustCompile(`^\s*<([^<>\s]{1,1000})>\s*;\s*rel="?next"?\s*$`)

// next is the following page's URL: on the same origin and under the same
// path, whatever the registry says.
func (u *Upstream) next(at *url.URL, resp *http.Response) (*url.URL, bool, error) {
	link := ""
	for _, l := range resp.Header.Values("Link") {
		if strings.Contains(l, "next") { // others are not for us: a CDN's preload, say
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
