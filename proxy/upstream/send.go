package upstream

import (
	"context"
	"errors"
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

	streams bool // the answer is a blob on its way to a client
	handsOn bool // the first redirect to elsewhere is the answer
	stays   bool // a redirect by the registry itself is the answer
}

// send sends c, with credentials if the registry asks for them, and follows
// redirects. The caller closes the body. Errors are *oci.UpstreamError; an
// answer whose status is not among the wanted ones is an error.
func (u *Upstream) send(ctx context.Context, c call, wanted ...int) (*http.Response, error) {
	resp, err := u.ask(ctx, c)
	if err != nil {
		return nil, err
	}

	if !slices.Contains(wanted, resp.StatusCode) {
		discard(resp)
		return nil, u.refused(c, resp)
	}

	if e, plain := plainEncoding(resp.Header); !plain {
		discard(resp)
		return nil, u.broken("it answered with Content-Encoding %.20q, which was not asked for", e)
	}

	return resp, nil
}

// ask is send for every status. It begins the pause that a 429 asks for.
func (u *Upstream) ask(ctx context.Context, c call) (*http.Response, error) {
	if u.unusable != nil {
		return nil, u.failure(http.StatusServiceUnavailable, u.unusable)
	}
	if err := u.paused(c.lane()); err != nil {
		return nil, err
	}

	leave, err := u.line.enter(ctx, c)
	if err != nil {
		return nil, u.fail(ctx, err)
	}
	if err := u.paused(c.lane()); err != nil { // begun while it waited
		leave()
		return nil, err
	}

	resp, err := u.authorized(ctx, c)
	if err != nil {
		leave()
		return nil, u.fail(ctx, err)
	}
	leaveAtClose(resp, leave)
	return resp, nil
}

// plainEncoding reports whether an answer's bytes are what they stand for. S3
// keeps aws-chunked of an upload, whose framing is gone long since, for what it
// sends.
func plainEncoding(h http.Header) (encoding string, plain bool) {
	encoding = strings.Join(h.Values("Content-Encoding"), ",")
	for one := range strings.SplitSeq(encoding, ",") {
		switch strings.ToLower(strings.TrimSpace(one)) {
		case "", "identity", "aws-chunked":
		default:
			return encoding, false
		}
	}
	return encoding, true
}

// authorized sends c with the header that worked last, and once more when the
// registry answers with a challenge that the gate can meet.
func (u *Upstream) authorized(ctx context.Context, c call) (*http.Response, error) {
	header, err := u.tokens.cached(ctx, c.repo)
	if err != nil {
		return nil, err
	}

	resp, err := u.follow(ctx, c, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		if resp, header, err = u.meet(ctx, c, resp, header); err != nil {
			return nil, err
		}
	}

	// An expired password is refused with 403 by some (Amazon's), and with 401 by
	// others. Where the source has a newer one, it is shown once.
	refused := resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized
	if refused && strings.HasPrefix(header, "Basic ") {
		if fresh, ok := u.tokens.renewed(ctx, c.repo, header); ok {
			discard(resp)
			header = fresh
			if resp, err = u.follow(ctx, c, header); err != nil {
				return nil, err
			}
		}
	}

	if resp.StatusCode != http.StatusUnauthorized {
		u.tokens.worked(header)
	} else if u.tokens.lacksRight(c.repo, header) {
		discard(resp)
		return nil, u.refusal(http.StatusForbidden, errors.New("it refuses the token that its realm has just given"))
	}
	return resp, nil
}

// meet answers the challenge of a 401, and returns the answer to that with the
// header it was given. tried was refused, if it is not empty.
func (u *Upstream) meet(
	ctx context.Context,
	c call,
	resp *http.Response,
	tried string,
) (answer *http.Response, header string, err error) {
	challenges := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	discard(resp)

	if tried != "" {
		u.tokens.forget(c.repo, tried)
	}
	if tried != "" && !asksFor(challenges, tried) {
		// Harbor asks for a password whoever shows a token that has ended, and for a
		// token whoever shows nothing.
		resp, err := u.follow(ctx, c, "")
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			return resp, "", err
		}
		challenges = parseChallenges(resp.Header.Values("WWW-Authenticate"))
		discard(resp)
	}
	if len(challenges) == 0 {
		challenges = u.ping(ctx)
	}

	header, err = u.tokens.respond(ctx, c.repo, challenges, tried)
	if err != nil {
		return nil, "", err
	}
	answer, err = u.follow(ctx, c, header)
	return answer, header, err
}

// asksFor reports whether the challenges can be met by another header of the same
// kind as tried, or by a token.
func asksFor(challenges []challenge, tried string) bool {
	_, bearer := challengeOf(challenges, "bearer")
	_, basic := challengeOf(challenges, "basic")
	return bearer || basic && strings.HasPrefix(tried, "Basic ")
}

// ping learns from /v2/ what a registry wants that refuses without a challenge
// (distribution, "API Version Check").
func (u *Upstream) ping(ctx context.Context) []challenge {
	resp, err := u.follow(ctx, call{method: http.MethodGet, url: u.front(), operation: "ping"}, "")
	if err != nil { // the refusal stands as it is
		return nil
	}
	defer discard(resp)

	if resp.StatusCode != http.StatusUnauthorized {
		return nil
	}
	return parseChallenges(resp.Header.Values("WWW-Authenticate"))
}

// follow sends c and follows redirects. The Authorization header goes to the
// registry's own origin, and to no other.
func (u *Upstream) follow(ctx context.Context, c call, authorization string) (*http.Response, error) {
	at, guest := c.url, guest{}
	for range maxRedirects {
		req, err := u.request(ctx, c, at)
		if err != nil {
			return nil, fmt.Errorf("build request: %w", err)
		}

		home := sameOrigin(at, u.base)
		switch {
		case home && authorization != "":
			req.Header.Set("Authorization", authorization)
		case !home && guest.at != nil && sameOrigin(at, guest.at):
			req.Header.Set("Authorization", guest.header)
		}

		resp, err := u.persist(ctx, c.method, func() (*http.Response, error) {
			return u.roundTrip(ctx, u.transport(at), req, c.operation)
		})
		if err != nil {
			return nil, err
		}

		if resp.StatusCode == http.StatusUnauthorized && !home {
			if guest, err = u.asGuest(ctx, at, resp, guest); err != nil {
				return nil, err
			}
			continue
		}
		if home {
			u.note(c, resp)
		}

		if !isRedirect(resp.StatusCode) || c.stays && home {
			return resp, nil
		}

		// GHCR has no referrers API and redirects to a web page instead. The page's
		// answer, which now and then is a 429, says nothing about signatures.
		if resp.StatusCode == http.StatusSeeOther && c.operation == operationReferrers {
			resp.StatusCode = http.StatusNotFound
			return resp, nil
		}

		if c.handsOn {
			return u.handOn(at, resp, authorization)
		}
		at, err = u.target(at, resp)
		if err != nil {
			return nil, err
		}
	}

	return nil, u.broken("it redirects more than %d times", maxRedirects)
}

// note learns from an answer of the registry itself: a pause that it asks for, that
// it serves, and whether it counts the manifests that are fetched.
func (u *Upstream) note(c call, resp *http.Response) {
	switch {
	case resp.StatusCode == http.StatusTooManyRequests:
		u.pauses.note(c.lane(), retryAfter(resp), u.now())
	case resp.StatusCode == http.StatusOK:
		u.answered.Store(true)
		if c.operation == "manifests" {
			u.counted.Store(resp.Header.Get("Ratelimit-Limit") != "")
		}
	}
}

// guest is what the gate shows a host to which the registry redirects and which
// gives tokens to anybody.
type guest struct {
	at     *url.URL // nil: nothing
	header string
}

// asGuest meets the challenge of a host to which the registry redirects: with a
// token for anybody, never with the registry's credentials, and once.
func (u *Upstream) asGuest(ctx context.Context, at *url.URL, resp *http.Response, before guest) (guest, error) {
	challenges := parseChallenges(resp.Header.Values("WWW-Authenticate"))
	discard(resp)

	c, ok := challengeOf(challenges, "bearer")
	if !ok || before.at != nil {
		return guest{}, u.broken("the host it redirects to wants credentials")
	}
	fresh, err := u.guestToken(ctx, at, c)
	var refused *realmRefusal
	if errors.As(err, &refused) {
		return guest{}, u.broken("the host it redirects to wants credentials")
	}
	return guest{at: at, header: fresh.header}, err
}

// request builds the request that c is at one stage of its redirects. No header
// of a client is in it but a blob's byte range.
func (u *Upstream) request(ctx context.Context, c call, at *url.URL) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, at.String(), nil)
	if err != nil {
		return nil, err
	}

	req.Header.Set("User-Agent", u.agent)
	if u.via != "" {
		req.Header.Set("Via", u.via)
	}
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
