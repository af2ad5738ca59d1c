package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// maxRedirects bounds the requests that one call sends after one another.
const maxRedirects = 5

// call is one question to the registry.
type call struct {
	method    string
	url       *url.URL
	operation string // a span's and a metric's label: manifests, blobs, referrers or tags
	accept    string
	byteRange string
	repo      policy.Repository
}

// send sends c, with credentials if the registry asks for them, and follows
// redirects. The caller closes the body. Errors are *oci.UpstreamError; an
// answer whose status is not among the wanted ones is an error.
func (u *Upstream) send(ctx context.Context, c call, wanted ...int) (*http.Response, error) {
	resp, err := u.authorized(ctx, c)
	if err != nil {
		return nil, u.fail(ctx, err)
	}

	if !slices.Contains(wanted, resp.StatusCode) {
		discard(resp)
		return nil, u.refused(c, resp)
	}

	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		discard(resp)
		return nil, u.broken("it answered with Content-Encoding %.20q, which was not asked for", e)
	}

	return resp, nil
}

// authorized sends c with the header that worked last, and once more when the
// registry answers with a challenge that the gate can meet.
func (u *Upstream) authorized(ctx context.Context, c call) (*http.Response, error) {
	header, err := u.tokens.cached(ctx, c.repo)
	if err != nil {
		return nil, err
	}

	resp, err := u.follow(ctx, c, header)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}

	challenges := resp.Header.Values("WWW-Authenticate")
	discard(resp)

	header, err = u.tokens.respond(ctx, c.repo, challenges, header)
	if err != nil {
		return nil, err
	}

	resp, err = u.follow(ctx, c, header)
	if err == nil && resp.StatusCode != http.StatusUnauthorized {
		u.tokens.worked(header)
	}

	return resp, err
}

// follow sends c and follows redirects. The Authorization header goes to the
// registry's own origin, and to no other.
func (u *Upstream) follow(ctx context.Context, c call, authorization string) (*http.Response, error) {
	at := c.url
	for range maxRedirects {
		req, err := u.request(ctx, c, at)
		if err != nil {
			return nil, fmt.Errorf("build request: %w", err)
		}

		home := sameOrigin(at, u.base)
		if home && authorization != "" {
			req.Header.Set("Authorization", authorization)
		}

		resp, err := u.roundTrip(ctx, u.transport(at), req, c.operation)
		if err != nil {
			return nil, err
		}

		// The challenge of another host is not the registry's, and gets none of its credentials.
		if resp.StatusCode == http.StatusUnauthorized && !home {
			discard(resp)
			return nil, u.broken("the host it redirects to wants credentials")
		}

		if !isRedirect(resp.StatusCode) {
			return resp, nil
		}

		// GHCR has no referrers API and redirects to a web page instead. The page's
		// answer, which now and then is a 429, says nothing about signatures.
		if resp.StatusCode == http.StatusSeeOther && c.operation == operationReferrers {
			resp.StatusCode = http.StatusNotFound
			return resp, nil
		}

		at, err = u.target(at, resp)
		if err != nil {
			return nil, err
		}
	}

	return nil, u.broken("it redirects more than %d times", maxRedirects)
}

// request builds the request that c is at one stage of its redirects. No header
// of a client is in it but a blob's byte range.
func (u *Upstream) request(ctx context.Context, c call, at *url.URL) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, at.String(), nil)
	if err != nil {
		return nil, err
	}

	req.Header.Set("User-Agent", u.agent)
	req.Header.Set("Accept-Encoding", "identity")
	if c.accept != "" {
		req.Header.Set("Accept", c.accept)
	}
	if c.byteRange != "" {
		req.Header.Set("Range", c.byteRange)
	}

	return req, nil
}

// transport is the way to a URL: the registry's own, or the one to hosts that
// the registry names.
func (u *Upstream) transport(at *url.URL) http.RoundTripper {
	if sameOrigin(at, u.base) {
		return u.direct
	}

	return u.away
}

// target is where a redirect leads: http or https, never from https to http, and
// without userinfo.
func (u *Upstream) target(from *url.URL, resp *http.Response) (*url.URL, error) {
	location, err := resp.Location()
	discard(resp)
	if err != nil {
		return nil, u.broken("it redirects without saying where")
	}

	if location.Scheme != "https" && location.Scheme != from.Scheme ||
		location.Scheme != "https" && location.Scheme != "http" ||
		location.User != nil {
		return nil, u.broken("it redirects to a URL that is not followed: %s://%s", location.Scheme, location.Host)
	}

	return location, nil
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently,
		http.StatusFound,
		http.StatusSeeOther,
		http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
		return true
	}

	return false
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }
