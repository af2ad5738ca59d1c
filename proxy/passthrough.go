package proxy

import (
	"net/http"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// enter has a request read its repository with its client's own credentials,
// where the upstream is one that they are passed through to. Where clients show the
// gate itself a password, configuration allows no such upstream: there is one
// Authorization header.
func (s *Snapshot) enter(req *request, r *http.Request) (leave func(), err error) {
	u, ok := s.Upstreams.PassingThrough(req.repo.Host)
	if !ok {
		return func() {}, nil
	}

	shown := r.Header.Values("Authorization")
	if len(shown) > 1 { // of which two parsers could choose another
		return nil, badRequest("UNAUTHORIZED", "there must be one Authorization header")
	}
	req.repo.Scope, leave, err = u.Enter(r.Header.Get("Authorization"))
	return leave, err
}

// mayRead asks the upstream, with the client's credentials, whether the client may
// read what it asks for. What memory, state and policies hold comes after that.
// Listings are not asked for twice: they come from the upstream each time.
func (x *exchange) mayRead() error {
	u, ok := x.snapshot.Upstreams.PassingThrough(x.request.repo.Host)
	if !ok {
		return nil
	}

	part := map[kind]string{manifestKind: "manifests", blobKind: "blobs"}[x.request.kind]
	if part == "" {
		return nil
	}
	return x.snapshot.Gate.ChargeRefusal(x.request.client, func() error {
		err := u.Readable(x.ctx, x.request.repo, part, x.request.ref.String())
		if part == "blobs" && oci.IsNotFound(err) { // containerd asks for a manifest as a blob after a refusal
			err = u.Readable(x.ctx, x.request.repo, "manifests", x.request.ref.String())
		}
		return err
	})
}

// challenge is what /v2/ asks a client for: some clients show credentials only
// where that does. It is empty where the client has shown some, or where every
// upstream is asked with the gate's.
func (s *Snapshot) challenge(r *http.Request, m meant) string {
	if r.Header.Get("Authorization") != "" {
		return ""
	}
	host, named := s.byHostname(r.Host)
	if m.host != "" {
		host, named = m.host, true
	}
	if !named {
		host = policy.FamiliarHost(s.DefaultUpstream)
	}
	if u, ok := s.Upstreams.PassingThrough(host); ok {
		return u.Challenge()
	}
	if !named && s.Upstreams.AnyPassesThrough() {
		return `Basic realm="pullgate"`
	}
	return ""
}
