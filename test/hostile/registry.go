// Package hostile is a registry that lies. It keeps images in memory, answers
// the pull half of the distribution spec, writes down every request, and plays
// tricks when told to. Tests put the gate before it.
package hostile

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Registry is a registry's handler over what was pushed into it. It is safe for
// concurrent use. The zero value is not usable.
type Registry struct {
	closed chan struct{}

	mu        sync.Mutex
	blobs     map[string][]byte      // by repository@digest
	manifests map[string]manifest    // by repository@digest
	tags      map[string][]string    // by repository, in the order they were pushed
	tagged    map[string]string      // repository:tag → digest
	attached  map[string][]reference // by repository@subject, in the order they were pushed
	tricks    []Trick
	log       []Request
}

type manifest struct {
	mediaType string
	body      []byte
}

// reference is one entry of the referrers API.
type reference struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int               `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// New makes an empty and honest registry.
func New() *Registry {
	return &Registry{
		closed:    make(chan struct{}),
		blobs:     map[string][]byte{},
		manifests: map[string]manifest{},
		tags:      map[string][]string{},
		tagged:    map[string]string{},
		attached:  map[string][]reference{},
	}
}

// Close ends every stalled answer.
func (r *Registry) Close() { close(r.closed) }

// Kind is what a request asks for.
type Kind string

// The kinds of a pull.
const (
	Other     Kind = ""
	Manifests Kind = "manifests"
	Blobs     Kind = "blobs"
	Referrers Kind = "referrers"
	Tags      Kind = "tags"
)

// Manifest is the manifest under a digest, nil when there is none.
func (r *Registry) Manifest(repo string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests[repo+"@"+d.String()].body
}

// Blob is the blob under a digest, nil when there is none.
func (r *Registry) Blob(repo string, d digest.Digest) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.blobs[repo+"@"+d.String()]
}

// Request is one request as it came in.
type Request struct {
	Method    string
	URI       string // the request line's, byte for byte
	Host      string
	Header    http.Header
	Kind      Kind
	Repo      string
	Reference string // tag or digest
	Nth       int    // how many requests for the same thing, by any method, came before
}

func (q Request) String() string { return q.Method + " " + q.URI }

// On switches tricks on, Off switches all of the same names off; with no names
// it makes the registry honest again.
func (r *Registry) On(tricks ...Trick) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tricks = append(r.tricks, tricks...)
}

// Off switches tricks off by name, all of them when none is given.
func (r *Registry) Off(tricks ...Trick) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(tricks) == 0 {
		r.tricks = nil
		return
	}
	for _, t := range tricks {
		r.tricks = slices.DeleteFunc(r.tricks, func(on Trick) bool { return on.Name == t.Name })
	}
}

// Requests lists what was asked since the last Forget, in order.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Count is how many requests match.
func (r *Registry) Count(match Match) int {
	n := 0
	for _, q := range r.Requests() {
		if match(q) {
			n++
		}
	}
	return n
}

// Forget empties the request log.
func (r *Registry) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
}

// Answer is what an honest registry would say; a trick may change it.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	q, tricks := r.note(req)
	a := r.honest(q, req)
	for _, t := range tricks {
		if t.where(q) && t.play(r, w, req, q, a) {
			return
		}
	}
	a.write(w, req)
}

// write sends the answer with its true length.
func (a *Answer) write(w http.ResponseWriter, req *http.Request) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	w.WriteHeader(a.Status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(a.Body) // a client that left needs no answer
	}
}

// note parses the path, as far as it is a pull, and writes the request down.
func (r *Registry) note(req *http.Request) (Request, []Trick) {
	q := Request{
		Method: req.Method,
		URI:    req.RequestURI,
		Host:   req.Host,
		Header: req.Header.Clone(),
	}
	if rest, ok := strings.CutPrefix(req.URL.Path, "/v2/"); ok {
		if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
			q.Kind, q.Repo = Tags, repo
		} else if i := strings.LastIndexByte(rest, '/'); i > 0 {
			for _, k := range []Kind{Manifests, Blobs, Referrers} {
				if repo, ok := strings.CutSuffix(rest[:i], "/"+string(k)); ok {
					q.Kind, q.Repo, q.Reference = k, repo, rest[i+1:]
				}
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, before := range r.log {
		if before.Kind == q.Kind && before.Repo == q.Repo && before.Reference == q.Reference {
			q.Nth++
		}
	}
	r.log = append(r.log, q)
	return q, slices.Clone(r.tricks)
}

func (r *Registry) honest(q Request, req *http.Request) *Answer {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return failure(http.StatusMethodNotAllowed, "UNSUPPORTED")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch q.Kind {
	case Manifests:
		return r.manifest(q)
	case Blobs:
		return r.blob(q)
	case Referrers:
		list := r.attached[q.Repo+"@"+q.Reference]
		return answer(http.StatusOK, IndexType, encode(map[string]any{
			"schemaVersion": 2,
			"mediaType":     IndexType,
			"manifests":     slices.Concat([]reference{}, list),
		}))
	case Tags:
		return r.list(q, req)
	}
	if req.URL.Path == "/v2/" {
		return answer(http.StatusOK, "application/json", []byte("{}"))
	}
	return failure(http.StatusNotFound, "NOT_FOUND")
}

func (r *Registry) manifest(q Request) *Answer {
	d := q.Reference
	if !strings.Contains(d, ":") {
		d = r.tagged[q.Repo+":"+d]
	}
	m, ok := r.manifests[q.Repo+"@"+d]
	if !ok {
		return failure(http.StatusNotFound, "MANIFEST_UNKNOWN")
	}
	a := answer(http.StatusOK, m.mediaType, m.body)
	a.Header.Set("Docker-Content-Digest", d)
	return a
}

func (r *Registry) blob(q Request) *Answer {
	b, ok := r.blobs[q.Repo+"@"+q.Reference]
	if !ok {
		return failure(http.StatusNotFound, "BLOB_UNKNOWN")
	}
	a := answer(http.StatusOK, "application/octet-stream", b)
	a.Header.Set("Docker-Content-Digest", q.Reference)
	first, last, ok := span(q.Header.Get("Range"), len(b))
	switch {
	case !ok:
	case first > last:
		a = failure(http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
		a.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", len(b)))
	default:
		a.Status, a.Body = http.StatusPartialContent, b[first:last+1]
		a.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(b)))
	}
	return a
}

// span reads one byte range; first > last means that it is outside.
func span(header string, size int) (first, last int, ok bool) {
	from, to, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	if !ok || header == "" {
		return 0, 0, false
	}
	last = size - 1
	if from == "" {
		n, err := strconv.Atoi(to)
		return max(0, size-n), last, err == nil
	}
	first, err := strconv.Atoi(from)
	if err != nil {
		return 0, 0, false
	}
	if to != "" {
		end, err := strconv.Atoi(to)
		if err != nil {
			return 0, 0, false
		}
		last = min(last, end)
	}
	return first, last, true
}

// list answers tags/list with the spec's paging.
func (r *Registry) list(q Request, req *http.Request) *Answer {
	all := slices.Clone(r.tags[q.Repo])
	slices.Sort(all)
	page := []string{}
	last := req.URL.Query().Get("last")
	n, err := strconv.Atoi(req.URL.Query().Get("n"))
	if err != nil {
		n = len(all)
	}
	more := false
	for _, t := range all {
		if t <= last {
			continue
		}
		if more = len(page) == n; more {
			break
		}
		page = append(page, t)
	}
	a := answer(http.StatusOK, "application/json", encode(map[string]any{"name": q.Repo, "tags": page}))
	if more && n > 0 {
		a.Header.Set("Link", fmt.Sprintf(`</v2/%s/tags/list?last=%s&n=%d>; rel="next"`, q.Repo, page[n-1], n))
	}
	return a
}

func answer(status int, contentType string, body []byte) *Answer {
	return &Answer{Status: status, Header: http.Header{"Content-Type": {contentType}}, Body: body}
}

func failure(status int, code string) *Answer {
	return answer(status, "application/json", encode(map[string]any{"errors": []any{map[string]string{
		"code":    code,
		"message": "from upstream",
	}}}))
}
