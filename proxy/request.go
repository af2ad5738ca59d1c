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
	ping kind = iota + 1
	manifestKind
	blobKind
	tagsKind
	referrersKind
)

func (k kind) String() string {
	return [...]string{"unknown", "ping", "manifest", "blob", "tags", "referrers"}[k]
}

// request is a pull request, parsed once: nothing later reads the URL again.
type request struct {
	kind      kind
	repo      policy.Repository
	ref       policy.Reference // of a manifest; a blob's or a referrers' subject's is a digest
	client    policy.Client
	rangeSpec string // one well-formed byte range of a blob request, or empty
	n, last   string // paging of tags/list
	artifact  string // artifactType filter of referrers
}

// parse reads a request against the configured upstreams. Spellings on which
// two parsers could disagree are refused, never cleaned up (400).
func (s *Snapshot) parse(r *http.Request) (request, error) {
	path := r.URL.EscapedPath()
	if strings.ContainsAny(path, "%\\") || strings.Contains(path, "//") || strings.Contains(path, "..") {
		return request{}, badRequest("NAME_INVALID", "the path may not hold %%, \\, // or ..")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return request{}, badRequest("NAME_INVALID", "the query is malformed")
	}
	req := request{client: policy.Client{Addr: clientAddr(r)}}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return request{}, notFound("this is a registry proxy for pulls; it answers under /v2/")
	}
	if rest == "" {
		req.kind = ping
		return req, nil
	}
	name, reference, err := req.split(rest)
	if err != nil {
		return request{}, err
	}
	if req.repo, err = s.repository(r, query, name); err != nil {
		return request{}, err
	}
	if err := req.refer(reference); err != nil {
		return request{}, err
	}
	if spec := r.Header.Get("Range"); req.kind == blobKind && byteRange.MatchString(spec) {
		req.rangeSpec = spec
	}
	req.n, req.last, req.artifact = query.Get("n"), query.Get("last"), query.Get("artifactType")
	return req, nil
}

// One range; several at once are answered with the whole blob, as RFC 9110 allows.
var byteRange = regexp.MustCompile(`^bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$`)

// split finds what is asked for. The last marker counts: a repository may be
// called a/manifests/b.
func (req *request) split(rest string) (name, reference string, err error) {
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		req.kind = tagsKind
		return name, "", nil
	}
	head, reference, ok := cutLast(rest)
	if !ok {
		return "", "", notFound("no such route; a registry's pull routes are manifests, blobs, tags/list and referrers")
	}
	switch {
	case strings.HasSuffix(head, "/manifests"):
		req.kind = manifestKind
	case strings.HasSuffix(head, "/blobs"):
		req.kind = blobKind
	case strings.HasSuffix(head, "/referrers"):
		req.kind = referrersKind
	default:
		return "", "", notFound("no such route; a registry's pull routes are manifests, blobs, tags/list and referrers")
	}
	return head[:strings.LastIndexByte(head, '/')], reference, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// refer reads what a manifest, a blob or a list of referrers is asked for by.
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

// repository chooses the upstream: by ns, by Host header, by the path's first
// segment, by default. A host that is not configured is refused: the gate is
// no open proxy.
func (s *Snapshot) repository(r *http.Request, query url.Values, name string) (policy.Repository, error) {
	host, path := "", name
	if ns, given := query["ns"]; given {
		if len(ns) != 1 || ns[0] == "" || strings.ContainsAny(ns[0], "/@?#% \\") {
			return policy.Repository{}, badRequest("NAME_INVALID", "the ns parameter must name one registry host")
		}
		host = ns[0]
	} else if u, ok := s.byHostname(r.Host); ok {
		host = u
	} else if first, rest, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(first, ".:") || strings.EqualFold(first, "localhost")) {
		host, path = first, rest
	} else {
		host = s.DefaultUpstream
	}
	known, ok := s.byHost(host)
	if !ok {
		return policy.Repository{}, unknownUpstream(host)
	}
	repo := policy.Repository{Host: known, Path: path}
	if known == "docker.io" && !strings.Contains(path, "/") {
		repo.Path = "library/" + path
	}
	if !policy.ValidPath(repo.Path) {
		return policy.Repository{}, badRequest(
			"NAME_INVALID",
			"the repository name is not one the distribution spec allows",
		)
	}
	return repo, nil
}

// byHost finds a configured upstream by the name images carry.
func (s *Snapshot) byHost(host string) (string, bool) {
	if host == "" {
		return "", false
	}
	host = policy.FamiliarHost(host)
	if _, ok := s.Upstreams[host]; ok {
		return host, true
	}
	host = policy.FamiliarHost(withoutPort(host))
	_, ok := s.Upstreams[host]
	return host, ok
}

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

func clientAddr(r *http.Request) string {
	return withoutPort(r.RemoteAddr)
}
