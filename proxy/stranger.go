package proxy

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/pullgate/pullgate/proxy/clients"
)

// strangerError is why the client of a request is not known.
type strangerError struct {
	err  error
	ping bool // it asked for /v2/
}

func (e *strangerError) Error() string { return "identify the client: " + e.err.Error() }

func (e *strangerError) Unwrap() error { return e.err }

// isUnidentified reports a client that has shown no name, or none that counts.
func isUnidentified(err error) bool {
	var refused *clients.RefusedError
	var busy *clients.BusyError
	return errors.As(err, &refused) || errors.As(err, &busy)
}

// showedNothing reports a client that has shown no name at all. Most do so until
// they are asked for one.
func showedNothing(err error) bool {
	var refused *clients.RefusedError
	return errors.As(err, &refused) && !refused.Shown
}

// answer translates what package clients says of a client. It is the same for
// every route but one: where no password would help, /v2/ is answered 401 and all
// else 403. skopeo and podman give up on a /v2/ that is forbidden, and containerd 2
// and Docker 29 fetch the text of a refusal on a 403 alone.
func (e *strangerError) answer() *httpError {
	var (
		refused   *clients.RefusedError
		busy      *clients.BusyError
		forwarded *clients.ForwardedError
	)
	switch {
	case errors.As(e.err, &refused) && refused.Challenge == "" && !e.ping:
		return &httpError{
			status:  http.StatusForbidden,
			code:    "DENIED",
			message: refused.Text,
		}
	case errors.As(e.err, &refused):
		return &httpError{
			status:    http.StatusUnauthorized,
			code:      "UNAUTHORIZED",
			message:   refused.Text,
			challenge: refused.Challenge,
		}
	case errors.As(e.err, &busy):
		return &httpError{
			status:     http.StatusTooManyRequests,
			code:       "TOOMANYREQUESTS",
			message:    busy.Error(),
			retryAfter: strconv.Itoa(busy.Seconds()),
		}
	case errors.As(e.err, &forwarded):
		return &httpError{
			status:  http.StatusBadRequest,
			code:    "UNSUPPORTED",
			message: forwarded.Error(),
		}
	}
	return couldNotTell()
}
