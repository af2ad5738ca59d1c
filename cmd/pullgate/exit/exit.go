// Package exit knows the exit codes of the commands and how an error carries one
// to main. It knows no command.
package exit

import "errors"

// The exit codes of every command, beside 0 for allowed or done.
const (
	Denied       = 1 // denied, or found wanting
	CouldNotTell = 2 // neither could be told, or the command did not get that far
)

// coded is an error that ends the program with a code of its own.
type coded struct {
	error
	code int
}

// With returns err, with the code that the program exits with once err has been
// printed.
func With(code int, err error) error { return &coded{error: err, code: code} }

func (c *coded) Unwrap() error { return c.error }

// Code returns the code that a command which ended with err exits with. An error
// that carries none means that the command could not tell.
func Code(err error) int {
	var own *coded

	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.code
	}
	return CouldNotTell
}
