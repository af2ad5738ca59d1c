package judge

import (
	"fmt"
	"runtime/debug"
)

// Guard makes a panic an error: one hostile document that a parser cannot stand
// must not stop every other pull.
func Guard(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v\n%s", p, debug.Stack())
		}
	}()
	return work()
}

// survive makes a panic over one candidate one reason why it does not count:
// others may.
func survive(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it cannot be verified: %.100q", fmt.Sprint(p))
		}
	}()
	return work()
}
