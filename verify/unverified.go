package verify

import (
	"context"
	"errors"
)

// Unverified is an upstream's failure while something was being verified: it
// says nothing of the image that was asked for, so the client is told that the
// gate could not tell, whatever status the upstream gave.
type Unverified struct{ err error }

func unverified(err error) error {
	var quota *QuotaError
	if err == nil || errors.As(err, &quota) { // the client's own doing, and to be told so
		return err
	}
	return &Unverified{err}
}

func (e *Unverified) Error() string { return e.err.Error() }

// Is lets a caller see that time ran out or that the client left, and nothing
// else: an upstream's 401 about a signature must not become a 401's answer.
func (e *Unverified) Is(target error) bool {
	return (target == context.DeadlineExceeded || target == context.Canceled) && errors.Is(e.err, target)
}
