package sigs

import (
	"errors"

	"github.com/pullgate/pullgate/verify/reason"
)

// refusal is why a candidate does not count: its text is for a person, its code
// for programs.
type refusal struct {
	error
	code reason.Code
}

func (r *refusal) Unwrap() error { return r.error }

// because gives err a code, unless it has one already: what failed deeper down
// says more.
func because(code reason.Code, err error) error {
	var known *refusal
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &refusal{err, code}
}

// CodeOf is the code of an error of Read or Verify; reason.Unverifiable is that
// of any other.
func CodeOf(err error) reason.Code {
	var r *refusal
	switch {
	case errors.Is(err, ErrNotLoaded):
		return reason.NotLoaded
	case errors.As(err, &r):
		return r.code
	}
	return reason.Unverifiable
}
