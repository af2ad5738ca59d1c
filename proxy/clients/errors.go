package clients

import (
	"strconv"
	"time"
)

// RefusedError says that a client has shown no name, or none that counts (401).
type RefusedError struct {
	Text      string // for the client: what to do
	Challenge string // for the WWW-Authenticate header; empty where no password would help
	Shown     bool   // something was shown, and it is wrong

	cause error // for the log
}

// Error is for the log: it says more than the client is told, and never what the
// client has shown.
func (e *RefusedError) Error() string {
	if e.cause != nil {
		return e.Text + ": " + e.cause.Error()
	}
	return e.Text
}

// Unwrap is why, where the text is not all.
func (e *RefusedError) Unwrap() error { return e.cause }

// BusyError says that so many wrong passwords came from a client's address that
// another one has to wait (429).
type BusyError struct{ Wait time.Duration }

func (e *BusyError) Error() string {
	return "too many wrong passwords from this address; again in " + strconv.Itoa(e.Seconds()) + " s"
}

// Seconds is Wait as a Retry-After header carries it: whole, at least 1.
func (e *BusyError) Seconds() int { return max(1, int((e.Wait+time.Second-1)/time.Second)) }

// ForwardedError says that a trusted proxy has named no address where the
// client's would stand (400).
type ForwardedError struct{ Proxy string }

func (e *ForwardedError) Error() string {
	return "the proxy " + e.Proxy + " has sent an X-Forwarded-For header without the client's address"
}

// wrong is what a way to show a name says of what it was shown.
type wrong struct {
	text  string // for the client
	cause error  // for the log; nil where the text says all
}

func (w *wrong) Error() string { return w.text }
