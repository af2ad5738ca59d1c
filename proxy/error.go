package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// httpError is an error as the client gets it: a status and one entry of the
// distribution spec's error envelope.
type httpError struct {
	status     int
	code       string
	message    string
	detail     any
	retryAfter string // seconds or a date, as the header spells it; empty: no header
	challenge  string // of a 401, as the header spells it; empty: no header
}

func (e *httpError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message) }

// write sends the error envelope: the only place that does. method is the
// request's; HEAD gets the same header without the envelope.
func (e *httpError) write(w http.ResponseWriter, method string) {
	entry := map[string]any{"code": e.code, "message": e.message}
	if e.detail != nil {
		entry["detail"] = e.detail
	}
	body, err := json.Marshal(map[string]any{"errors": []any{entry}})
	if err != nil { // the detail is ours and always encodes
		body = []byte(`{"errors":[{"code":"UNAVAILABLE","message":"the gate could not write its answer"}]}`)
	}

	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.retryAfter != "" {
		h.Set("Retry-After", e.retryAfter)
	}
	if e.challenge != "" {
		h.Set("WWW-Authenticate", e.challenge)
	}
	w.WriteHeader(e.status)
	writeBody(w, method, body)
}

func badRequest(code, message string) error {
	return &httpError{
		status:  http.StatusBadRequest,
		code:    code,
		message: message,
	}
}

func notFound(message string) error {
	return &httpError{
		status:  http.StatusNotFound,
		code:    "UNSUPPORTED",
		message: message,
	}
}

func unknownUpstream(host string) error {
	message := "the image name has no registry host and no defaultUpstream is configured"
	if host != "" {
		message = fmt.Sprintf("this gate has no upstream %.100q; an admin can add it under upstreams", host)
	}
	return &httpError{
		status:  http.StatusNotFound,
		code:    "NAME_UNKNOWN",
		message: message,
	}
}

// isUnknownUpstream reports whether err is unknownUpstream's. Only of a request
// that could not be parsed does it say so: the code has other uses, too.
func isUnknownUpstream(err error) bool {
	var e *httpError
	return errors.As(err, &e) && e.code == "NAME_UNKNOWN"
}

// denialDetail is what a policy's refusal carries for programs. Its keys are
// part of the API. It is short, because some clients print it as it is, behind
// the message that says everything.
type denialDetail struct {
	Image    string   `json:"image"`
	Digest   string   `json:"digest"`
	Policy   string   `json:"policy"`
	Decision string   `json:"decision"`
	Reasons  []string `json:"reasons"`
}

const (
	maxDetailReasons = 4
	maxDetailReason  = 120 // bytes of each, besides the mark of what was cut off
)

// shortReasons are the first reasons of a verdict, each no longer than a line.
func shortReasons(reasons []verify.Reason) []string {
	list := make([]string, 0, maxDetailReasons) // a list in JSON, too, where there are none
	for _, r := range reasons[:min(len(reasons), maxDetailReasons)] {
		text := r.String()
		if len(text) > maxDetailReason {
			text = strings.ToValidUTF8(text[:maxDetailReason], "") + "…"
		}
		list = append(list, text)
	}
	return list
}

// denied is the 403 of a policy's refusal. Most clients print nothing but its
// message.
func denied(v verify.Verdict, decision string) error {
	return &httpError{
		status:  http.StatusForbidden,
		code:    "DENIED",
		message: v.Message(),
		detail: denialDetail{
			Image:    v.Image.String(),
			Digest:   v.Digest.String(),
			Policy:   v.Policy,
			Decision: decision,
			Reasons:  shortReasons(v.Reasons),
		},
	}
}

// couldNotTell is the 503 of everything that kept the gate from a verdict. Its
// text is fixed: an inner error's is for the log.
func couldNotTell() *httpError {
	return &httpError{
		status: http.StatusServiceUnavailable,
		code:   "UNAVAILABLE",
		message: "the gate could not verify this image right now; try again shortly, its log says what failed " +
			"under the decision id",
		retryAfter: "5",
	}
}

// asHTTPError translates every error a handler can return. An error it does
// not know is "could not tell".
func asHTTPError(err error) *httpError {
	var (
		known   *httpError
		unknown *strangerError
		quota   *verify.QuotaError
		closed  *verify.ClosedError
		failure *oci.UpstreamError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &unknown):
		return unknown.answer()
	case errors.Is(err, oci.ErrManifest):
		return &httpError{
			status:  http.StatusBadRequest,
			code:    "MANIFEST_INVALID",
			message: errorText(err),
		}
	case errors.Is(err, oci.ErrDigest):
		return &httpError{
			status:  http.StatusBadRequest,
			code:    "DIGEST_INVALID",
			message: errorText(err),
		}
	case errors.Is(err, context.DeadlineExceeded):
		return couldNotTell() // also where an upstream's error holds it
	case errors.As(err, &quota):
		return &httpError{
			status:     http.StatusTooManyRequests,
			code:       "TOOMANYREQUESTS",
			message:    quota.Error(),
			retryAfter: strconv.Itoa(quota.Seconds()),
		}
	case errors.As(err, &closed):
		return &httpError{
			status:  http.StatusForbidden,
			code:    "DENIED",
			message: closed.Error(),
		}
	case errors.As(err, &failure):
		return fromUpstream(failure)
	}
	return couldNotTell()
}

// errorText is the reason inside a manifest or digest error. The gate writes
// both itself and quotes nothing at length.
func errorText(err error) string {
	text := err.Error()
	return text[:min(len(text), 300)]
}

// fromUpstream translates what a registry answered, or how asking it failed.
func fromUpstream(u *oci.UpstreamError) *httpError {
	if u.Identity != "" {
		return withoutCredentials(u)
	}

	switch u.Status {
	case http.StatusNotFound:
		return &httpError{
			status:  u.Status,
			code:    "MANIFEST_UNKNOWN",
			message: u.Host + " does not have it",
		}
	case http.StatusTooManyRequests:
		return &httpError{
			status:     u.Status,
			code:       "TOOMANYREQUESTS",
			message:    u.Host + " limits how often it may be asked",
			retryAfter: u.RetryAfter,
		}
	case http.StatusUnauthorized:
		return unauthorized(u)
	case http.StatusPaymentRequired, http.StatusGone, http.StatusUnavailableForLegalReasons:
		return forGood(u)
	case http.StatusForbidden:
		return &httpError{
			status:  u.Status,
			code:    "DENIED",
			message: "upstream refused: " + u.Host + " does not let the gate read this",
		}
	case http.StatusBadGateway, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return &httpError{
			status:  http.StatusBadGateway,
			code:    "UNAVAILABLE",
			message: u.Host + " sent an answer the gate cannot use; its log says which under the decision id",
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return &httpError{
			status:  u.Status,
			code:    "SIZE_INVALID",
			message: "the range is outside the blob",
		}
	}
	return couldNotTell()
}

// forGood passes on what a registry says for good: trying again shortly does not
// help.
func forGood(u *oci.UpstreamError) *httpError {
	said := map[int]struct{ code, text string }{
		http.StatusPaymentRequired:            {"DENIED", " says that it has to be paid for (402 Payment Required)"},
		http.StatusGone:                       {"MANIFEST_UNKNOWN", " had it once and says that it is gone (410 Gone)"},
		http.StatusUnavailableForLegalReasons: {"DENIED", " withholds it for legal reasons (451)"},
	}[u.Status]
	return &httpError{
		status:     u.Status,
		code:       said.code,
		message:    u.Host + said.text,
		retryAfter: u.RetryAfter,
	}
}

// withoutCredentials answers where the gate could not get its credentials for a
// registry. It says whom the gate wanted to be; why that failed is for the log.
func withoutCredentials(u *oci.UpstreamError) *httpError {
	return &httpError{
		status: http.StatusBadGateway,
		code:   "UNAVAILABLE",
		message: "the gate got no credentials for " + u.Host + " as " + u.Identity +
			"; its log says why under the decision id",
	}
}

// unauthorized answers for a 401. Where the credentials are the gate's, the client
// is not challenged.
func unauthorized(u *oci.UpstreamError) *httpError {
	if u.Challenge != "" {
		return &httpError{
			status:    http.StatusUnauthorized,
			code:      "UNAUTHORIZED",
			message:   u.Host + " asks for your own credentials: log in at this gate with those for " + u.Host,
			challenge: u.Challenge,
		}
	}
	if u.HadAuth {
		return &httpError{
			status:  http.StatusBadGateway,
			code:    "UNAVAILABLE",
			message: "the gate's credentials for " + u.Host + " were refused",
		}
	}
	return &httpError{
		status:  http.StatusNotFound,
		code:    "NAME_UNKNOWN",
		message: u.Host + " asks for credentials, and the gate has none for it",
	}
}
