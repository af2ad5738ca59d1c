package proxy

import (
	"time"

	"github.com/pullgate/pullgate/verify"
)

// Snapshot is one configuration as requests see it; a request uses one to its
// end. It must not be changed after it was handed over.
type Snapshot struct {
	Gate            *verify.Gate
	Upstreams       Upstreams
	Hostnames       map[string]string // Host header, lower case → familiar host
	DefaultUpstream string            // familiar host; empty: a bare name is unknown

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

// blobs is Blobs, or what stands in for it.
func (s *Snapshot) blobs() Blobs {
	if s.Blobs == nil {
		return s.Upstreams
	}
	return s.Blobs
}
