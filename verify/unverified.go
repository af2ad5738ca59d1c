package verify

import (
	"context"
	"errors"
)

// unverifiedError is an upstream's failure while something was being verified:
// it says nothing of the image that was asked for, so the client is told that
// the gate could not tell, whatever status the upstream gave.
type unverifiedError struct{ err error }

// unverified makes err an unverifiedError, unless the client has used up its
// quota: that is its own doing, and it is told so.
func unverified(err error) error {
	var quota *QuotaError
	if err == nil || errors.As(err, &quota) {
		return err
	}
	return &unverifiedError{err}
}

func (e *unverifiedError) Error() string { return e.err.Error() }

// Is lets a caller see that time ran out or that the client left, and nothing
// else: an upstream's 401 about a signature must not become a 401's answer.
func (e *unverifiedError) Is(target error) bool {
	return (target == context.DeadlineExceeded || target == context.Canceled) && errors.Is(e.err, target)
}
