package proxy

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// kind is what a request asks for.
type kind int

const (
	unparsed kind = iota
	ping
	manifestKind
	blobKind
	tagsKind
	referrersKind
)

// String is the kind as logs, metrics and records spell it.
func (k kind) String() string {
	return [...]string{"unknown", "ping", "manifest", "blob", "tags", "referrers"}[k]
}

// request is a pull request, parsed once: nothing later reads the URL or a
// header again.
type request struct {
	kind         kind
	repo         policy.Repository
	ref          policy.Reference // of a manifest; a digest for blobs and referrers
	client       policy.Client
	asked        string // the repository's name as the client spelled it in the path
	ns           string // the ns parameter, or empty
	rangeSpec    string // one well-formed byte range of a blob request, or empty
	ifNoneMatch  string // the header as it came
	n, last      string // paging of tags/list, as a client begins it
	page         string // of a listing, from a link of the gate's
	artifactType string // filter of referrers
}

const noSuchRoute = "no such route; a registry's pull routes are manifests, blobs, tags/list and referrers"

// byteRange is one range. Several at once are answered with the whole blob, as
// RFC 9110 allows.
var byteRange = regexp.MustCompile(`^bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$`)

// parse reads a request against the configured upstreams. Spellings on which
// two parsers could disagree are refused, never cleaned up (400).
func (s *Snapshot) parse(r *http.Request, m meant) (request, error) {
	path := r.URL.EscapedPath()
	if strings.ContainsAny(path, "%\\") || strings.Contains(path, "//") || dotted(path) {
		return request{}, badRequest("NAME_INVALID", "the path may not hold %, \\, // or a segment . or ..")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return request{}, badRequest("NAME_INVALID", "the query is malformed")
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return request{}, notFound("this is a registry proxy for pulls; it answers under /v2/")
	}
	if rest == "" {
		return request{kind: ping}, nil
	}

	var req request
	reference, err := req.split(rest)
	if err != nil {
		return request{}, err
	}
	if req.repo, err = s.repository(r, m, query, req.asked); err != nil {
		return request{}, err
	}
	if err := req.refer(reference); err != nil {
		return request{}, err
	}

	if spec := r.Header.Get("Range"); req.kind == blobKind && byteRange.MatchString(spec) {
		req.rangeSpec = spec
	}
	req.ifNoneMatch = r.Header.Get("If-None-Match")
	req.ns, req.n, req.last = query.Get("ns"), query.Get("n"), query.Get("last")
	req.page, req.artifactType = query.Get("page"), query.Get("artifactType")
	return req, nil
}

// dotted reports whether a segment of path is . or .., which some parsers take
// for a way to another folder. A tag may hold two dots.
func dotted(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// split finds what is asked for, and the name as it was asked for. The last
// marker counts: a repository may be called a/manifests/b.
func (req *request) split(rest string) (reference string, err error) {
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		req.kind, req.asked = tagsKind, name
		return "", nil
	}

	head, reference, ok := cutLast(rest)
	if !ok {
		return "", notFound(noSuchRoute)
	}
	name, marker, ok := cutLast(head)
	if !ok {
		return "", notFound(noSuchRoute)
	}
	switch marker {
	case "manifests":
		req.kind = manifestKind
	case "blobs":
		req.kind = blobKind
	case "referrers":
		req.kind = referrersKind
	default:
		return "", notFound(noSuchRoute)
	}
	req.asked = name
	return reference, nil
}

// cutLast is strings.Cut at the last slash.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// refer reads the reference of a manifest, a blob or a list of referrers.
func (req *request) refer(reference string) (err error) {
	if req.kind == tagsKind {
		return nil
	}
	req.ref, err = policy.ParseReference(reference)
	switch {
	case errors.Is(err, policy.ErrTag) && req.kind == manifestKind:
		return badRequest("MANIFEST_INVALID", "the reference is neither a tag nor a digest")
	case err != nil, req.ref.Tag != "" && req.kind != manifestKind:
		return badRequest("DIGEST_INVALID", "the digest is not sha256: or sha512: and lower-case hex")
	}
	return nil
}

// repository chooses the upstream and names the repository as policies see it.
// A host that is not configured is refused: the gate is no open proxy.
func (s *Snapshot) repository(
	r *http.Request,
	m meant,
	query url.Values,
	name string,
) (policy.Repository, error) {
	host, path, err := s.choose(r, m, query, name)
	if err != nil {
		return policy.Repository{}, err
	}
	known, ok := policy.ConfiguredHost(host, s.Upstreams.ImpliedPort)
	if !ok {
		return policy.Repository{}, unknownUpstream(host)
	}

	repo := policy.Repository{Host: known, Path: path}
	if known == "docker.io" && !strings.Contains(path, "/") {
		repo.Path = "library/" + path
	}
	if !policy.ValidPath(repo.Path) {
		return policy.Repository{}, badRequest(
			"NAME_INVALID", "the repository name is not one the distribution spec allows")
	}
	return repo, nil
}

// choose finds the upstream's host and the path there: by what the client believes
// it speaks to, by ns, by Host header, by the name's first segment, by default.
func (s *Snapshot) choose(
	r *http.Request,
	m meant,
	query url.Values,
	name string,
) (host, path string, err error) {
	if m.host != "" {
		if query.Has("ns") {
			return "", "", badRequest("NAME_INVALID", "this connection is for "+m.host+" alone, and takes no ns")
		}
		return m.host, name, nil
	}
	if ns, given := query["ns"]; given {
		if len(ns) != 1 || !policy.ValidHost(ns[0]) {
			return "", "", badRequest("NAME_INVALID", "the ns parameter must name one registry host")
		}
		return ns[0], name, nil
	}
	if host, ok := s.byHostname(r.Host); ok {
		return host, name, nil
	}
	if first, rest, ok := strings.Cut(name, "/"); ok && namesHost(first) {
		return first, rest, nil
	}
	return s.DefaultUpstream, name, nil
}

// namesHost reports whether a name's first segment is a registry host.
func namesHost(segment string) bool {
	return strings.ContainsAny(segment, ".:") || strings.EqualFold(segment, "localhost")
}

// byHostname finds a configured upstream by the Host header that selects it.
func (s *Snapshot) byHostname(host string) (string, bool) {
	if len(s.Hostnames) == 0 {
		return "", false
	}
	host = strings.ToLower(host)
	for _, h := range []string{host, withoutPort(host)} {
		if u, ok := s.Hostnames[h]; ok && h != "" {
			return u, true
		}
	}
	return "", false
}

func withoutPort(host string) string {
	if strings.IndexByte(host, ':') < 0 {
		return host // SplitHostPort would make an error
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}
