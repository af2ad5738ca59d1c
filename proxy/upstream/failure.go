package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/verify/oci"
)

// failure is an error of this upstream. To build one costs no I/O: whether there
// were credentials is asked of Configured, which runs no helper.
func (u *Upstream) failure(status int, err error) *oci.UpstreamError {
	e := &oci.UpstreamError{
		Status:  status,
		HadAuth: u.auth.Configured(),
		Host:    u.host,
		Err:     err,
	}
	if status == http.StatusUnauthorized && u.PassesThrough() {
		e.Challenge = u.Challenge()
	}
	return e
}

// refusal is the error for what the registry, or its token realm, refuses.
func (u *Upstream) refusal(status int, err error) *oci.UpstreamError {
	e := u.failure(status, err)
	e.Answered = true

	return e
}

// errElsewhere marks what a host says to which the registry redirects.
var errElsewhere = errors.New("by a host that it redirects to")

// refused turns an answer with an unwanted status into an error.
func (u *Upstream) refused(c call, resp *http.Response) error {
	status := http.StatusBadGateway
	switch {
	case resp.StatusCode >= 400 && resp.StatusCode < 500, resp.StatusCode == http.StatusNotImplemented:
		status = resp.StatusCode
	case resp.StatusCode >= 500:
		status = http.StatusServiceUnavailable
	}

	why := fmt.Errorf("%s %s: %s", c.method, c.url.Path, statusText(resp))
	if !sameOrigin(resp.Request.URL, u.base) {
		why = fmt.Errorf("%w, %w", why, errElsewhere)
	}

	e := u.failure(status, why)
	e.RetryAfter = retryAfter(resp)
	e.Answered = true

	return e
}

// broken is the error for an answer that no healthy registry gives.
func (u *Upstream) broken(format string, args ...any) error {
	return u.refusal(http.StatusBadGateway, fmt.Errorf(format, args...))
}

// fail turns any other error into that of an upstream that could not be asked.
// Its text leaves URLs out: a blob store's URL carries its access signature.
func (u *Upstream) fail(ctx context.Context, err error) error {
	var known *oci.UpstreamError
	if errors.As(err, &known) {
		return err
	}

	var without *credentials.Failure
	if errors.As(err, &without) {
		e := u.failure(http.StatusBadGateway, err)
		e.Identity = without.Identity
		return e
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
		err = fmt.Errorf("%w: it speaks no TLS; where plain http is meant, "+
			"write `url: http://…` for this upstream (verify --key: --plain-http)", err)
	}

	return u.failure(http.StatusServiceUnavailable, err)
}

// statusText is an answer's status in the gate's words: the registry's own text
// could hold anything, such as a terminal's control sequences.
func statusText(resp *http.Response) string {
	return fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
}

// retryAfter is the upstream's Retry-After if it is a number or a date, and
// empty otherwise.
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
