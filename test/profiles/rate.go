package profiles

import "net/http"

// Rate is what a registry says of how often it may be asked.
type Rate struct {
	Header map[string]string // of every answer for a manifest
	Form   Form              // of the body of a 429
}

// Endpoint is what of a registry is limited apart from the rest.
type Endpoint string

// The endpoints of a registry, and of what belongs to it.
const (
	RealmEndpoint     Endpoint = "realm"
	FrontEndpoint     Endpoint = "front" // /v2/ itself
	ManifestsEndpoint Endpoint = "manifests"
	BlobsEndpoint     Endpoint = "blobs"
	ReferrersEndpoint Endpoint = "referrers"
	TagsEndpoint      Endpoint = "tags"
	StoreEndpoint     Endpoint = "store"  // that blobs are redirected to
	AwayEndpoint      Endpoint = "away"   // a page for browsers
	GuestsEndpoint    Endpoint = "guests" // the realm of a host that manifests are redirected to
	NoEndpoint        Endpoint = "none"   // that the gate has no business with
)

// Limit makes an endpoint answer 429, with a Retry-After unless that is empty,
// until Unlimit.
func (r *Registry) Limit(at Endpoint, retryAfter string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limits[at] = retryAfter
}

// Unlimit ends every limit.
func (r *Registry) Unlimit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.limits)
}

// limited reports whether a request is over a limit, and answers it if it is.
func (r *Registry) limited(w http.ResponseWriter, at Endpoint) bool {
	r.mu.Lock()
	retryAfter, limited := r.limits[at]
	r.mu.Unlock()
	if !limited {
		return false
	}

	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	Refusal{Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", Form: r.profile.Rate.Form}.write(w)
	return true
}
