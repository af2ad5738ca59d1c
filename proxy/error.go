package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/oci"
)

// answer is an error as the client gets it: a status and one entry of the
// distribution spec's error envelope.
type answer struct {
	status     int
	code       string
	message    string
	detail     any
	retryAfter string
}

func (a *answer) Error() string { return fmt.Sprintf("%d %s: %s", a.status, a.code, a.message) }

func badRequest(code, format string, args ...any) error {
	return &answer{status: http.StatusBadRequest, code: code, message: fmt.Sprintf(format, args...)}
}

func notFound(message string) error {
	return &answer{status: http.StatusNotFound, code: "UNSUPPORTED", message: message}
}

func unknownUpstream(host string) error {
	if host == "" {
		return &answer{
			status:  http.StatusNotFound,
			code:    "NAME_UNKNOWN",
			message: "the name carries no registry host, and this gate has no defaultUpstream",
		}
	}
	return &answer{
		status:  http.StatusNotFound,
		code:    "NAME_UNKNOWN",
		message: fmt.Sprintf("this gate has no upstream %.100q; an admin can add it under upstreams", host),
	}
}

// denial is the 403 of a policy's refusal.
type denialDetail struct {
	Image    string          `json:"image"`
	Digest   string          `json:"digest"`
	Policy   string          `json:"policy"`
	Decision string          `json:"decision"`
	Reasons  []verify.Reason `json:"reasons"`
}

func denied(v verify.Verdict, decision string) error {
	return &answer{
		status:  http.StatusForbidden,
		code:    "DENIED",
		message: v.Message(),
		detail: denialDetail{
			Image:    v.Image.String(),
			Digest:   v.Digest.String(),
			Policy:   v.Policy,
			Decision: decision,
			Reasons:  v.Reasons,
		},
	}
}

// couldNotTell is fixed: an inner error's text is for the log.
const couldNotTell = "the gate could not verify this image right now; try again shortly, its log says what failed " +
	"under the decision id"

const retryAfter = "5" // seconds

// asAnswer translates every error a handler can return. What it does not know
// is "could not tell".
func asAnswer(err error) *answer {
	var a *answer
	if errors.As(err, &a) {
		return a
	}
	switch {
	case errors.Is(err, oci.ErrManifest):
		return &answer{status: http.StatusBadRequest, code: "MANIFEST_INVALID", message: errorText(err)}
	case errors.Is(err, oci.ErrDigest):
		return &answer{status: http.StatusBadRequest, code: "DIGEST_INVALID", message: errorText(err)}
	case errors.Is(err, context.DeadlineExceeded):
		return &answer{
			status:     http.StatusServiceUnavailable,
			code:       "UNAVAILABLE",
			message:    couldNotTell,
			retryAfter: retryAfter,
		}
	}
	var quota *verify.QuotaError
	if errors.As(err, &quota) {
		return &answer{
			status:     http.StatusTooManyRequests,
			code:       "TOOMANYREQUESTS",
			message:    quota.Error(),
			retryAfter: strconv.Itoa(quota.Seconds()),
		}
	}
	var u *oci.UpstreamError
	if errors.As(err, &u) {
		return fromUpstream(u)
	}
	return &answer{
		status:     http.StatusServiceUnavailable,
		code:       "UNAVAILABLE",
		message:    couldNotTell,
		retryAfter: retryAfter,
	}
}

// errorText is the reason inside a manifest or digest error; both are written
// by the gate itself and quote nothing at length.
func errorText(err error) string {
	text := err.Error()
	return text[:min(len(text), 300)]
}

func fromUpstream(u *oci.UpstreamError) *answer {
	switch u.Status {
	case http.StatusNotFound:
		return &answer{status: u.Status, code: "MANIFEST_UNKNOWN", message: u.Host + " does not have it"}
	case http.StatusTooManyRequests:
		return &answer{
			status:     u.Status,
			code:       "TOOMANYREQUESTS",
			message:    u.Host + " limits how often it may be asked",
			retryAfter: u.RetryAfter,
		}
	case http.StatusUnauthorized:
		if u.HadAuth {
			return &answer{
				status:  http.StatusBadGateway,
				code:    "UNAVAILABLE",
				message: "the gate's credentials for " + u.Host + " were refused",
			}
		}
		return &answer{
			status:  http.StatusNotFound,
			code:    "NAME_UNKNOWN",
			message: u.Host + " asks for credentials, and the gate has none for it",
		}
	case http.StatusForbidden:
		return &answer{
			status:  u.Status,
			code:    "DENIED",
			message: "upstream refused: " + u.Host + " does not let the gate read this",
		}
	case http.StatusBadGateway, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return &answer{
			status:  http.StatusBadGateway,
			code:    "UNAVAILABLE",
			message: u.Host + " sent an answer the gate cannot use; its log says which under the decision id",
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return &answer{status: u.Status, code: "SIZE_INVALID", message: "the range is outside the blob"}
	}
	return &answer{
		status:     http.StatusServiceUnavailable,
		code:       "UNAVAILABLE",
		message:    couldNotTell,
		retryAfter: retryAfter,
	}
}

// write sends the error envelope: the only place that does.
func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	entry := map[string]any{"code": a.code, "message": a.message}
	if a.detail != nil {
		entry["detail"] = a.detail
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
	if a.retryAfter != "" {
		h.Set("Retry-After", a.retryAfter)
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left needs no answer
	}
}
