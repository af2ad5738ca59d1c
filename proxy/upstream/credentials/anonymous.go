package credentials

import (
	"context"

	"github.com/pullgate/pullgate/policy"
)

// Anonymous is the source of a registry that is asked without credentials.
type Anonymous struct{}

// Get returns no credentials.
func (Anonymous) Get(context.Context, policy.Repository) (Credentials, error) {
	return Credentials{}, nil
}

// Configured is false.
func (Anonymous) Configured() bool { return false }

// Refused does nothing: nothing is cached.
func (Anonymous) Refused() {}
