package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const maxRedirects = 5

// ask is one question to the registry.
type ask struct {
	method    string
	url       *url.URL
	operation string // bounded: manifests, blobs, referrers, tags
	accept    string
	byteRange string
	repo      policy.Repository
}

// send asks, with credentials when the registry wants them, following
// redirects. The caller closes the body. Errors are *verify.UpstreamError;
// every answer that is none of the wanted statuses is one.
func (u *Upstream) send(ctx context.Context, a ask, wanted ...int) (*http.Response, error) {
	header, err := u.tokens.remembered(ctx, a.repo)
	if err != nil {
		return nil, u.fail(ctx, err)
	}
	resp, err := u.follow(ctx, a, header)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		challenge := resp.Header.Values("WWW-Authenticate")
		discard(resp)
		header, err = u.tokens.answer(ctx, a.repo, challenge, header)
		if err == nil {
			resp, err = u.follow(ctx, a, header)
		}
		if err == nil && resp.StatusCode != http.StatusUnauthorized {
			u.tokens.worked(header)
		}
	}
	if err != nil {
		return nil, u.fail(ctx, err)
	}
	for _, status := range wanted {
		if resp.StatusCode == status {
			if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
				discard(resp)
				return nil, u.broken("it answered with Content-Encoding %.20q, which was not asked for", e)
			}
			return resp, nil
		}
	}
	discard(resp)
	return nil, u.refused(a, resp)
}

// follow sends a with the Authorization header given and follows redirects:
// to the same origin with it, to any other without.
func (u *Upstream) follow(ctx context.Context, a ask, authorization string) (*http.Response, error) {
	at := a.url
	for range maxRedirects {
		req, err := http.NewRequestWithContext(ctx, a.method, at.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("build request: %w", err)
		}
		req.Header.Set("User-Agent", u.agent)
		req.Header.Set("Accept-Encoding", "identity")
		if a.accept != "" {
			req.Header.Set("Accept", a.accept)
		}
		if a.byteRange != "" {
			req.Header.Set("Range", a.byteRange)
		}
		transport := u.direct
		if !sameOrigin(at, u.base) {
			transport = u.away
		} else if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		resp, err := u.roundTrip(ctx, transport, req, a.operation)
		if err != nil {
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusMovedPermanently,
			http.StatusFound,
			http.StatusSeeOther,
			http.StatusTemporaryRedirect,
			http.StatusPermanentRedirect:
		case http.StatusUnauthorized:
			if !sameOrigin(at, u.base) { // not the registry's challenge: nothing of its credentials is for there
				discard(resp)
				return nil, u.broken("the host it redirects to wants credentials")
			}
			return resp, nil
		default:
			return resp, nil
		}
		if resp.StatusCode == http.StatusSeeOther && a.operation == operationReferrers {
			// GHCR has no referrers API and sends whoever asks to a web page. The
			// page's answer, a 429 now and then, says nothing of signatures.
			resp.StatusCode = http.StatusNotFound
			return resp, nil
		}
		location, err := resp.Location()
		discard(resp)
		if err != nil {
			return nil, u.broken("it redirects without saying where")
		}
		if location.Scheme != "https" && location.Scheme != at.Scheme ||
			location.Scheme != "https" && location.Scheme != "http" ||
			location.User != nil {
			return nil, u.broken("it redirects to a URL that is not followed: %s://%s", location.Scheme, location.Host)
		}
		at = location
	}
	return nil, u.broken("it redirects more than %d times", maxRedirects)
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// discard reads what little is left, so that the connection can be used again,
// but waits for nobody who only drips.
func discard(resp *http.Response) {
	patience := time.AfterFunc(50*time.Millisecond, func() { _ = resp.Body.Close() })
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10) // an answer nobody wants
	patience.Stop()
	_ = resp.Body.Close()
}

// refused turns an answer's status into an error.
func (u *Upstream) refused(a ask, resp *http.Response) error {
	e := &oci.UpstreamError{
		Status:     resp.StatusCode,
		RetryAfter: retryAfter(resp),
		HadAuth:    u.auth.any(),
		Host:       u.host,
		Err:        fmt.Errorf("%s %s: %s", a.method, a.url.Path, statusText(resp)),
	}
	switch {
	case resp.StatusCode >= 400 && resp.StatusCode < 500, resp.StatusCode == http.StatusNotImplemented:
	case resp.StatusCode >= 500:
		e.Status = http.StatusServiceUnavailable
	default:
		e.Status = http.StatusBadGateway
	}
	return e
}

// statusText is an answer's status in our words: the registry's own could hold
// anything, a terminal's commands for one.
func statusText(resp *http.Response) string {
	return fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
}

// retryAfter is the upstream's Retry-After if it is the number or date it should be.
func retryAfter(resp *http.Response) string {
	v := resp.Header.Get("Retry-After")
	if len(v) > 40 {
		return ""
	}
	if _, err := http.ParseTime(v); err == nil || v != "" && strings.Trim(v, "0123456789") == "" {
		return v
	}
	return ""
}

// broken is an answer no healthy registry gives.
func (u *Upstream) broken(format string, args ...any) error {
	return &oci.UpstreamError{
		Status:  http.StatusBadGateway,
		HadAuth: u.auth.any(),
		Host:    u.host,
		Err:     fmt.Errorf(format, args...),
	}
}

// fail makes every other error one of an upstream that could not be asked. URLs
// are left out of the text: a blob store's carry its access signature.
func (u *Upstream) fail(ctx context.Context, err error) error {
	var known *oci.UpstreamError
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var withURL *url.Error
	if errors.As(err, &withURL) {
		err = withURL.Err
	}
	var noTLS tls.RecordHeaderError
	if errors.As(err, &noTLS) || errors.Is(err, http.ErrSchemeMismatch) {
		err = fmt.Errorf(
			"%w: it speaks no TLS; where plain http is meant, write `url: http://…` for this upstream (verify "+
				"--key: --plain-http)",
			err,
		)
	}
	return &oci.UpstreamError{
		Status:  http.StatusServiceUnavailable,
		HadAuth: u.auth.any(),
		Host:    u.host,
		Err:     err,
	}
}

// maxParts bounds what JSON can cost in memory, which is far more than its
// bytes: an answer is looked at only if it holds no more commas and braces.
const maxParts = 200_000

func tooManyParts(b []byte) bool {
	return bytes.Count(b, []byte(","))+bytes.Count(b, []byte("{"))+bytes.Count(b, []byte("[")) > maxParts
}

// decode parses an answer, when one of the few places for it is free.
func (u *Upstream) decode(ctx context.Context, b []byte, into any) error {
	select {
	case u.parses <- struct{}{}:
		defer func() { <-u.parses }()
	case <-ctx.Done():
		return u.fail(ctx, ctx.Err())
	}
	return json.Unmarshal(b, into)
}

// read takes a body of at most limit bytes.
func (u *Upstream) read(ctx context.Context, resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	select {
	case u.reads <- struct{}{}:
		defer func() { <-u.reads }()
	case <-ctx.Done():
		return nil, u.fail(ctx, ctx.Err())
	}
	if resp.ContentLength > limit {
		return nil, u.broken("%w: %d bytes where at most %d may be", oci.ErrTooLarge, resp.ContentLength, limit)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, u.fail(ctx, fmt.Errorf("read answer: %w", err))
	}
	if int64(len(b)) > limit {
		return nil, u.broken("%w: more than %d bytes", oci.ErrTooLarge, limit)
	}
	return b, nil
}

// matches compares bytes with the digest they were asked for by.
func (u *Upstream) matches(d digest.Digest, b []byte) error {
	if err := oci.CheckDigest(d); err != nil {
		return err
	}
	if got := d.Algorithm().FromBytes(b); got != d {
		return u.broken("asked for %s it sent %s", d, got)
	}
	return nil
}
