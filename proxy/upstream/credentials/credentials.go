// Package credentials knows what the gate shows a registry to prove who it is:
// one file for each kind of source, all behind Source. It decides nothing
// about where credentials may be sent; that is for the upstream that asks for
// them. It knows the services of clouds that give them out, and neither the gate
// nor how a registry is asked.
package credentials

import (
	"context"
	"fmt"

	"github.com/pullgate/pullgate/policy"
)

// Source gives out the credentials of one registry. Implementations are safe
// for concurrent use.
type Source interface {
	// Get returns the credentials that are valid now for a repository; the zero
	// value means that the source holds none. It may read files, run programs and
	// wait for them: the end of ctx ends that too. An error means that the
	// credentials could not be read, which is never the same as having none. Its
	// text quotes no secret.
	Get(ctx context.Context, repository policy.Repository) (Credentials, error)

	// Configured reports whether there are credentials for the registry, as far
	// as is known without any I/O: errors and log lines are built with it.
	Configured() bool

	// Refused tells the source that the registry, or its token realm, did not take
	// what the last Get returned: what was cached of it is asked for anew.
	Refused()
}

// Registry is the registry that credentials are for.
type Registry struct {
	Host    string // as image names carry it, for example docker.io
	Address string // host or host:port that requests go to, for example registry-1.docker.io

	// Path is put before every repository there; ImpliedPort is the port that
	// Address means when it has none. Either may be empty.
	Path, ImpliedPort string
}

// Credentials are what a registry, or its token realm, is shown. The zero value
// shows nothing.
type Credentials struct {
	Username      string `json:"-"`
	Password      string `json:"-"`
	IdentityToken string `json:"-"` // an OAuth 2 refresh token, shown instead of a password
	Token         string `json:"-"` // a bearer token, which the registry itself takes, and no token realm sees
}

// Empty reports whether there is nothing to show.
func (c Credentials) Empty() bool { return c == Credentials{} }

// Format keeps secrets out of logs and errors: every verb prints the same word.
func (c Credentials) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprint(s, "[credentials]")
}
