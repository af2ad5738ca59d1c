package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
)

// FuzzParse: a request that is accepted means one repository and one reference,
// and the upstream is asked for exactly these, whatever the client wrote.
func FuzzParse(f *testing.F) {
	hex := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []struct{ path, query, host string }{
		{"/v2/", "", "gate"},
		{"/v2/app/manifests/v1", "", "gate"},
		{"/v2/reg.example/team/app/manifests/v1", "", "gate"},
		{"/v2/reg.example/app/blobs/sha256:" + hex, "", "gate:5000"},
		{"/v2/app/manifests/sha512:" + hex + hex, "ns=reg.example", ""},
		{"/v2/a/b/tags/list", "n=5&last=x&ns=docker.io", "named.test"},
		{"/v2/a/referrers/sha256:" + hex, "artifactType=x%2By", "NAMED.test:1"},
		{"/v2/a%2Fb/manifests/v1", "", ""},
		{"/v2//a/manifests/v1", "", ""},
		{"/v2/a/../b/manifests/v1", "", ""},
		{"/v2/a/manifests/manifests/manifests/v1", "", ""},
		{"/v2/localhost/a/manifests/v1", "", ""},
		{"/v2/LOCALHOST:1/a/manifests/v1", "", ""},
		{"/v2/a\\b/manifests/v1", "", ""},
		{"/v2/a/manifests/v1", "ns=a&ns=b", ""},
		{"/v2/a/manifests/v1", "ns=", ""},
		{"/v2/a/manifests/v1", "ns=%00", ""},
		{"/v2/a/manifests/v1", "ns=reg.example;x", ""},
		{"/v2/a/manifests/v1?x#y", "", ""},
		{"/v2/\u212a/manifests/v1", "", "\u212a"},
		{"/v2/a/manifests/v1\x00", "", ""},
		{"v2/a/manifests/v1", "", ""},
		{"/v2/a/tags/list/tags/list", "", ""},
	} {
		f.Add(seed.path, seed.query, seed.host)
	}
	var mu sync.Mutex
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = r.RequestURI
		w.WriteHeader(http.StatusNotFound)
	}))
	f.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		f.Fatal(err)
	}
	s := &Snapshot{
		Upstreams:       Upstreams{&upstream.Registries{}},
		Hostnames:       map[string]string{"named.test": "reg.example"},
		DefaultUpstream: "docker.io",
	}
	for _, host := range []string{"docker.io", "reg.example", "localhost:5000"} {
		up, err := upstream.New(upstream.Config{Host: host, URL: base})
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(up.Close)
		s.Upstreams.Add(host, up)
	}
	f.Fuzz(func(t *testing.T, rawPath, query, host string) {
		u := &url.URL{RawQuery: query}
		if parsed, err := url.ParseRequestURI(rawPath); err == nil { // as net/http reads a request line
			u.Path, u.RawPath = parsed.Path, parsed.RawPath
		} else {
			u.Path = rawPath
		}
		r := &http.Request{Method: http.MethodGet, URL: u, Host: host, Header: http.Header{}, RemoteAddr: "192.0.2.1:1"}
		req, err := s.parse(r, meant{})
		if err != nil {
			if e := asHTTPError(err); e.status != 400 && e.status != 404 {
				t.Fatalf("%q: %v", rawPath, err)
			}
			return
		}
		if req.kind == ping {
			return
		}
		up, ok := s.Upstreams.Find(req.repo.Host)
		if !ok || !policy.ValidPath(req.repo.Path) {
			t.Fatalf("%q means %q", rawPath, req.repo)
		}
		kind := map[kind]string{
			manifestKind:  "manifests",
			blobKind:      "blobs",
			referrersKind: "referrers",
			tagsKind:      "tags",
		}[req.kind]
		reference := req.ref.String()
		if req.kind == tagsKind {
			reference = "list"
		}
		want := "/v2/" + req.repo.Path + "/" + kind + "/" + reference
		if strings.ContainsAny(want, "%?#\\ \x00") || path.Clean(want) != want ||
			!strings.HasSuffix(u.EscapedPath(), "/"+kind+"/"+reference) {
			t.Fatalf("%q means %q", rawPath, want)
		}
		name := strings.TrimSuffix(strings.TrimPrefix(u.EscapedPath(), "/v2/"), "/"+kind+"/"+reference)
		if name != req.asked {
			t.Fatalf("%q: the name %q was read as %q", rawPath, name, req.asked)
		}
		if name != req.repo.Path && "library/"+name != req.repo.Path &&
			!strings.HasSuffix(name, "/"+req.repo.Path) &&
			!strings.HasSuffix("library/"+name[strings.IndexByte(name, '/')+1:], req.repo.Path) {
			t.Fatalf("%q: the name %q became %q", rawPath, name, req.repo.Path)
		}

		switch req.kind {
		case manifestKind:
			_, err = up.Manifest(t.Context(), policy.Image{Repository: req.repo, Reference: req.ref}, 1)
		case blobKind:
			_, err = up.Blob(t.Context(), req.repo, req.ref.Digest, 1)
		case referrersKind:
			_, _ = up.Referrers(t.Context(), req.repo, req.ref.Digest, 1)
			err = errAny
		case tagsKind:
			_, _, err = up.Tags(t.Context(), req.repo, "", 1)
		}
		mu.Lock()
		defer mu.Unlock()
		if err == nil || asked != want {
			t.Fatalf("%q means %q, the upstream was asked %q, %v", rawPath, want, asked, err)
		}
	})
}

var errAny = notFound("any")
