package credentials

import "errors"

// Failure is why a source has no credentials at the moment, although it should:
// a role that was refused, a service that does not answer, a program that fails.
type Failure struct {
	Identity string // whom the gate wanted to be, for example a role's name
	Err      error  // what failed; its text quotes no secret
}

func (f *Failure) Error() string { return f.Identity + ": " + f.Err.Error() }

// Unwrap returns what failed.
func (f *Failure) Unwrap() error { return f.Err }

// identityOf is whom the failure in err is about; empty when there is none.
func identityOf(err error) string {
	var f *Failure
	if errors.As(err, &f) {
		return f.Identity
	}
	return ""
}
