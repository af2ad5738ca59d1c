package proxy

import (
	"net/http"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// Snapshot is one configuration as requests see it; a request uses one to its
// end. It must not be changed after it was handed over.
type Snapshot struct {
	Gate            *verify.Gate
	Upstreams       Upstreams
	Hostnames       map[string]string // Host header, lower case → familiar host
	DefaultUpstream string            // familiar host; empty: a bare name is unknown

	// Authenticate says which client sent a request, before anything else of
	// the request is looked at. An error refuses the request: what package
	// clients says of a client, and else a 503. It must be safe for concurrent
	// use and must not read the request's body. Nil: ClientByAddress.
	Authenticate func(*http.Request) (policy.Client, error)

	// Help is one line that stands after every refusal: whom to ask. It may be
	// empty.
	Help string

	// Blobs opens what clients are served of blobs. Nil: the Upstreams do.
	Blobs Blobs

	// Streams bounds the blobs on their way to clients.
	Streams StreamLimits

	// Listings bounds the answers of tags/list and referrers.
	Listings ListingLimits
}

// ListingLimits bounds one listing. Both fields are positive; the zero value
// lets no listing through.
type ListingLimits struct {
	Timeout time.Duration // for everything that is asked of the upstream
	Bytes   int64         // of one page of the upstream's answer
}

// identify asks Authenticate, or what stands in for it, unless it is known already.
func (s *Snapshot) identify(r *http.Request, m meant) (policy.Client, error) {
	if m.client != nil {
		return *m.client, nil
	}
	if s.Authenticate == nil {
		return ClientByAddress(r)
	}

	client, err := s.Authenticate(r)
	if err != nil {
		return client, &strangerError{err: err, ping: r.URL.Path == "/v2/"}
	}
	return client, nil
}

// blobs is Blobs, or what stands in for it.
func (s *Snapshot) blobs() Blobs {
	if s.Blobs == nil {
		return s.Upstreams
	}
	return s.Blobs
}
