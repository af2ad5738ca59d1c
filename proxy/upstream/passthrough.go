package upstream

import (
	"context"
	"errors"
	"net/http"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

// PassesThrough reports whether the registry is shown each client's own
// credentials.
func (u *Upstream) PassesThrough() bool {
	_, ok := u.auth.(*credentials.Passthrough)
	return ok
}

// Challenge is what a client is asked for whose credentials are passed through: a
// user and a password. What the registry itself asks for, a token of its realm,
// the gate then gets with them. Its own challenge would have clients send what
// they have for the gate to a realm of the registry's choice.
func (u *Upstream) Challenge() string { return `Basic realm="` + u.host + `"` }

// Enter takes a client's Authorization header for the time of a request, and
// returns the scope that stands for it. An error is an *oci.UpstreamError.
func (u *Upstream) Enter(authorization string) (scope string, leave func(), err error) {
	source, ok := u.auth.(*credentials.Passthrough)
	if !ok {
		return "", func() {}, nil
	}

	scope, leave, err = source.Enter(authorization)
	switch {
	case errors.Is(err, credentials.ErrAuthorization):
		return "", nil, u.failure(http.StatusUnauthorized, err)
	case err != nil:
		return "", nil, u.failure(http.StatusServiceUnavailable, err)
	}
	return scope, leave, nil
}

// Readable asks the registry whether it lets the reader of repo read a part of it:
// kind is manifests or blobs. A blob's redirect to a store is a yes, which only
// the registry itself can say. Errors are those of the other questions.
func (u *Upstream) Readable(ctx context.Context, repo policy.Repository, kind, reference string) error {
	c := call{
		method:    http.MethodHead,
		url:       u.at(repo, kind, reference),
		operation: kind,
		repo:      repo,
	}
	if kind == "manifests" {
		c.accept = acceptManifests
	} else {
		c.stays = true
	}

	resp, err := u.ask(ctx, c)
	if err == nil && !c.granted(resp) && saysNothing(resp.StatusCode) {
		discard(resp)
		c.method = http.MethodGet
		resp, err = u.ask(ctx, c)
	}
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // at once: a blob may be large
	if !c.granted(resp) {
		return u.refused(c, resp)
	}
	return nil
}

// granted reports whether an answer lets the reader read what was asked for.
func (c call) granted(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK || c.stays && isRedirect(resp.StatusCode)
}

// saysNothing reports a status by which a registry may refuse HEAD alone.
func saysNothing(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests:
		return false
	}
	return status < http.StatusInternalServerError || status == http.StatusNotImplemented
}
