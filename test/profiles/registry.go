package profiles

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// Registry answers by a profile, for the registry's own host, its realm, its
// object store and every other host that its answers lead to. It writes down
// every request. It is safe for concurrent use.
type Registry struct {
	profile Profile
	now     Clock
	content *hostile.Registry
	realmAt *url.URL // nil: none

	mu         sync.Mutex
	rights     map[string]Right // by repository
	secret     string
	oldSecret  bool // the account's password has been changed
	tokens     map[string]token
	generation int // of the key that signs tokens
	limits     map[Endpoint]string
	asked      map[string]int // by repository@digest
	seen       []Seen
	refused    int // 401 for what was shown
}

// Right is who may read a repository.
type Right int

// The rights of repositories.
const (
	Public  Right = iota // everybody, or every account where there is nothing for guests
	Private              // the account
	Foreign              // another account
)

// Seen is one request as it came in.
type Seen struct {
	Endpoint   Endpoint
	Host       string
	Method     string
	URI        string
	Header     http.Header
	Form       url.Values // of a POST
	TLS        bool
	Repository string
	Reference  string // tag or digest

	rest string // of the path, behind the API's beginning
}

func (q Seen) digest() digest.Digest { return digest.Digest(q.Reference) }

// New makes an empty registry.
func New(p Profile, now Clock) *Registry {
	return &Registry{
		profile: p,
		now:     now,
		content: hostile.New(),
		realmAt: p.Challenge.realm(),
		rights:  map[string]Right{},
		secret:  Password,
		tokens:  map[string]token{},
		limits:  map[Endpoint]string{},
		asked:   map[string]int{},
	}
}

// Content is what the registry holds; what is pushed there can be pulled from
// repositories that were added.
func (r *Registry) Content() *hostile.Registry { return r.content }

// Add makes a repository.
func (r *Registry) Add(repository string, right Right) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rights[repository] = right
}

// Secret is the account's password.
func (r *Registry) Secret() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.secret
}

// ChangeSecret gives the account another password.
func (r *Registry) ChangeSecret(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret, r.oldSecret = secret, true
}

// expiredIs403 reports whether a wrong password is one that has ended, and the
// registry answers 403 to those.
func (r *Registry) expiredIs403(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.oldSecret && user == User && r.profile.Absent.Unreadable.Status == http.StatusForbidden
}

func (r *Registry) exists(repository string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.rights[repository]
	return ok
}

func (r *Registry) readable(repository string, asks who) bool {
	r.mu.Lock()
	defer r.mu.Unlock()

	right, ok := r.rights[repository]
	if !ok || right == Foreign {
		return false
	}
	return asks == account || right == Public && !r.profile.AccountsOnly
}

// Seen lists what was asked since the last Forget, in order.
func (r *Registry) Seen() []Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// At lists what was asked of some endpoints.
func (r *Registry) At(endpoints ...Endpoint) []Seen {
	return slices.DeleteFunc(r.Seen(), func(q Seen) bool { return !slices.Contains(endpoints, q.Endpoint) })
}

// Refused is how many requests were answered with 401 for what they showed, since
// the last Forget.
func (r *Registry) Refused() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// Forget empties the list of requests.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen, r.refused = nil, 0
}

// ServeHTTP answers for every host.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q := r.note(req)
	for name, value := range r.profile.Header {
		w.Header().Set(name, value)
	}
	if r.limited(w, q.Endpoint) {
		return
	}

	switch q.Endpoint {
	case RealmEndpoint:
		r.realm(w, req)
		return
	case GuestsEndpoint:
		_, _ = w.Write([]byte(`{"token":"` + guestToken + `"}`)) // a client that left needs no answer
		return
	case StoreEndpoint:
		r.store(w, req, q)
		return
	case AwayEndpoint:
		r.away(w)
		return
	case NoEndpoint:
		Refusal{Status: http.StatusNotFound, Form: HTML}.write(w)
		return
	case FrontEndpoint:
		r.front(w, req)
		return
	}

	if !r.open(w, req, q) || r.moved(w, q) {
		return
	}
	switch q.Endpoint {
	case ManifestsEndpoint:
		r.manifest(w, req, q)
	case BlobsEndpoint:
		r.blob(w, req, q)
	case ReferrersEndpoint:
		r.referrers(w, req, q)
	case TagsEndpoint:
		r.tags(w, req, q)
	}
}

// open reports whether a request may go on, and answers it if not. What redirects
// everything wants nothing itself.
func (r *Registry) open(w http.ResponseWriter, req *http.Request, q Seen) bool {
	moves := r.profile.Manifests.MovedTo != "" && r.profile.Challenge.Kind == None
	if q.Host == r.profile.api() {
		return moves || r.admit(w, req, q.Repository)
	}
	return r.welcome(w, req)
}

// front answers for /v2/ itself.
func (r *Registry) front(w http.ResponseWriter, req *http.Request) {
	token, isToken := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	if r.profile.Challenge.Kind != None && !(isToken && r.issued(token)) {
		r.challenge(w, req, "")
		return
	}
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	_, _ = w.Write([]byte("{}"))
}

// note finds out what a request is for, and writes it down.
func (r *Registry) note(req *http.Request) Seen {
	q := Seen{
		Endpoint: r.endpoint(req),
		Host:     withoutPort443(req.Host),
		Method:   req.Method,
		URI:      req.URL.RequestURI(),
		Header:   req.Header.Clone(),
		TLS:      req.TLS != nil,
	}
	if req.ParseForm() == nil {
		q.Form = req.PostForm
	}

	q.rest = r.rest(req)
	if q.Endpoint == StoreEndpoint {
		name, _ := strings.CutPrefix(req.URL.Path, path(r.profile.Blobs.To))
		at := strings.LastIndexByte(name, '/')
		q.rest = name[:max(at, 0)] + "/blobs/" + name[at+1:]
	}
	q.Repository, q.Reference = parts(q.rest, string(q.Endpoint))

	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, q)
	return q
}

// endpoint is what a request is for.
func (r *Registry) endpoint(req *http.Request) Endpoint {
	p, at := r.profile, withoutPort443(req.Host)
	store := host(p.Blobs.To)
	switch {
	case r.realmAt != nil && at == withoutPort443(r.realmAt.Host) && req.URL.Path == r.realmAt.Path:
		return RealmEndpoint
	case p.Blobs.To != "" && (store == "" || at == store) && strings.HasPrefix(req.URL.Path, path(p.Blobs.To)):
		return StoreEndpoint
	case p.Manifests.GuestRealm != "" && "https://"+at+req.URL.Path == p.Manifests.GuestRealm:
		return GuestsEndpoint
	case p.Referrers.Away != "" && at == host(p.Referrers.Away):
		return AwayEndpoint
	case at == p.api() && req.URL.Path == p.base():
		return FrontEndpoint
	}

	rest := r.rest(req)
	if strings.HasSuffix(rest, "/tags/list") {
		return TagsEndpoint
	}
	for _, e := range []Endpoint{ManifestsEndpoint, BlobsEndpoint, ReferrersEndpoint} {
		if repository, _ := parts(rest, string(e)); repository != "" {
			return e
		}
	}
	return NoEndpoint
}

// rest is a path behind the beginning of the API, of the registry or of where its
// manifests have moved to; empty elsewhere.
func (r *Registry) rest(req *http.Request) string {
	for _, begin := range []string{"https://" + r.profile.api() + r.profile.base(), r.profile.Manifests.MovedTo} {
		if rest, ok := strings.CutPrefix("https://"+withoutPort443(req.Host)+req.URL.Path, begin); ok && begin != "" {
			return rest
		}
	}
	return ""
}

// parts takes a path apart at its kind.
func parts(rest, kind string) (repository, reference string) {
	if repository, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return repository, ""
	}
	if kind == string(StoreEndpoint) {
		kind = string(BlobsEndpoint)
	}
	repository, reference, ok := strings.Cut(rest, "/"+kind+"/")
	if !ok {
		return "", ""
	}
	return repository, reference
}

// host is the host of a URL; empty for a path.
func host(to string) string {
	at, err := url.Parse(to)
	if err != nil {
		return ""
	}
	return at.Host
}

func path(to string) string {
	at, err := url.Parse(to)
	if err != nil {
		return ""
	}
	return at.Path
}

// withoutPort443 is a host without the port that https implies.
func withoutPort443(host string) string { return strings.TrimSuffix(host, ":443") }
