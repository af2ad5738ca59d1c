package profiles

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// Head is how a registry answers HEAD for a manifest.
type Head int

// The answers to HEAD.
const (
	HeadAsGet Head = iota
	HeadWithoutDigest
	HeadNotAllowed  // 405
	HeadForbidden   // 403
	HeadOtherLength // of the compressed bytes
)

// Manifests is how a registry sends manifests.
type Manifests struct {
	Head     Head
	NoDigest bool // Docker-Content-Digest is left out, of GET too

	// NeedsIndexType: who does not accept an index is told that there is none.
	NeedsIndexType bool

	// MovedTo is the URL before the repository to which everything but blobs is
	// redirected with 307; empty: it is sent.
	MovedTo string

	// GuestRealm is the realm of the host at MovedTo, which gives a token to anybody
	// and takes no other; empty: that host wants nothing.
	GuestRealm string

	// Lags is how many requests by digest, one after another, reach a replica that
	// does not have the manifest yet.
	Lags int
}

// manifest answers a request for a manifest.
func (r *Registry) manifest(w http.ResponseWriter, req *http.Request, q Seen) {
	how := r.profile.Manifests
	if q.Method == http.MethodHead {
		switch how.Head {
		case HeadNotAllowed:
			Refusal{Status: http.StatusMethodNotAllowed, Form: Empty}.write(w)
			return
		case HeadForbidden:
			Refusal{Status: http.StatusForbidden, Form: Empty}.write(w)
			return
		case HeadAsGet, HeadWithoutDigest, HeadOtherLength:
		}
	}
	if q.Method == http.MethodGet && strings.Contains(q.Reference, ":") && r.lagging(q.Repository, q.Reference) {
		Refusal{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN"}.write(w)
		return
	}

	a := r.stored(req, q)
	contentType := a.Header().Get("Content-Type")
	if how.NeedsIndexType && contentType == hostile.IndexType &&
		!strings.Contains(req.Header.Get("Accept"), hostile.IndexType) {
		Refusal{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN"}.write(w)
		return
	}
	if a.Code == http.StatusNotFound {
		r.profile.Absent.Tag.or(Refusal{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN"}).write(w)
		return
	}

	if how.NoDigest || q.Method == http.MethodHead && how.Head == HeadWithoutDigest {
		a.Header().Del("Docker-Content-Digest")
	}
	if q.Method == http.MethodHead && how.Head == HeadOtherLength {
		a.Header().Set("Content-Length", strconv.Itoa(17))
	}
	for name, value := range r.profile.Rate.Header {
		a.Header().Set(name, value)
	}
	send(w, a)
}

// guestToken is what a host at MovedTo takes.
const guestToken = "guest-token"

// welcome reports whether a request at another host than the registry's may go on,
// and answers it if not.
func (r *Registry) welcome(w http.ResponseWriter, req *http.Request) bool {
	realm := r.profile.Manifests.GuestRealm
	if realm == "" || req.Header.Get("Authorization") == "Bearer "+guestToken {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="guests"`)
	unauthorized.write(w)
	return false
}

// moved redirects to another host, where the same is asked for again.
func (r *Registry) moved(w http.ResponseWriter, q Seen) bool {
	to := r.profile.Manifests.MovedTo
	if to == "" || q.Endpoint == BlobsEndpoint || q.Host != r.profile.api() {
		return false
	}
	w.Header().Set("Location", to+q.rest)
	w.WriteHeader(http.StatusTemporaryRedirect)
	return true
}

// lagging reports whether this request by digest reaches a replica without it.
func (r *Registry) lagging(repository, reference string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()

	key := repository + "@" + reference
	r.asked[key]++
	return r.asked[key] <= r.profile.Manifests.Lags
}

// Blobs is how a registry sends blobs.
type Blobs struct {
	Status int           // of a redirect; 0: they are streamed
	To     string        // before the blob's path: a URL, or a path on the registry's own host
	Life   time.Duration // how long the redirect's URL is good; 0: for ever

	HeadForbidden bool // the store's URL is signed for GET alone
	NoRanges      bool // ranges are ignored
}

// blob answers a request for a blob at the registry.
func (r *Registry) blob(w http.ResponseWriter, req *http.Request, q Seen) {
	how := r.profile.Blobs
	if how.Status == 0 || r.stored(req, q).Code >= http.StatusBadRequest {
		r.sendBlob(w, req, q)
		return
	}

	ends := "never"
	if how.Life > 0 {
		ends = strconv.FormatInt(r.now().Add(how.Life).Unix(), 10)
	}
	w.Header().Set("Location", how.To+q.Repository+"/"+q.Reference+"?ends="+ends+"&signature="+Mark)
	w.Header().Set("Docker-Content-Digest", q.Reference)
	w.WriteHeader(how.Status)
}

// store answers for the object store that blobs are redirected to. It knows its
// own signature alone, as S3 does.
func (r *Registry) store(w http.ResponseWriter, req *http.Request, q Seen) {
	if r.profile.Blobs.Status == 0 || req.URL.Query().Get("signature") != Mark {
		Refusal{Status: http.StatusForbidden, Form: Text}.write(w)
		return
	}
	if req.Header.Get("Authorization") != "" && q.Host != r.profile.api() {
		Refusal{Status: http.StatusBadRequest, Code: "two ways to authenticate", Form: HTML}.write(w)
		return
	}

	ends, err := strconv.ParseInt(req.URL.Query().Get("ends"), 10, 64)
	expired := err == nil && !r.now().Before(time.Unix(ends, 0))
	if expired || req.Method == http.MethodHead && r.profile.Blobs.HeadForbidden {
		Refusal{Status: http.StatusForbidden, Form: Text}.write(w)
		return
	}

	r.sendBlob(w, req, q)
}

func (r *Registry) sendBlob(w http.ResponseWriter, req *http.Request, q Seen) {
	if r.profile.Blobs.NoRanges {
		req = req.Clone(req.Context())
		req.Header.Del("Range")
	}
	send(w, r.stored(req, q))
}
