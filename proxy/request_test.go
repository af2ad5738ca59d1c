package proxy_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// Section 2: a spelling on which two parsers could disagree is refused, never
// cleaned up: no redirect, and the upstream hears nothing of it.
func TestPathSpellings(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) { o.fallback = "reg.example" })
	image := r.reg.PushImage("open/app", "v1")
	hex := image.Digest.Encoded()
	name255 := strings.Repeat("a/", 127) + "a"
	const reg = "/v2/reg.example/"
	for target, want := range map[string]int{
		reg + "open%2Fapp/manifests/v1":                           400,
		reg + "open%2fapp/manifests/v1":                           400,
		reg + "open/app%2Fmanifests/v1":                           400,
		reg + "open/app/manifests%2Fv1":                           400,
		"/v2%2Freg.example/open/app/manifests/v1":                 400,
		"/%76%32/reg.example/open/app/manifests/v1":               400,
		reg + "open/app/manifests/v%31":                           400,
		reg + "open/%61pp/manifests/v1":                           400,
		reg + "open/app/manifests/sha256%3A" + hex:                400,
		reg + "open/app%252Fx/manifests/v1":                       400,
		reg + "open/app/manifests/v1%00":                          400,
		reg + "open/app%00/manifests/v1":                          400,
		reg + "open/app%0d%0aX-Evil:1/manifests/v1":               400,
		reg + "open/app%20/manifests/v1":                          400,
		reg + "open//app/manifests/v1":                            400,
		reg + "open/app//manifests/v1":                            400,
		reg + "open/app/manifests//v1":                            400,
		"//v2/reg.example/open/app/manifests/v1":                  400,
		"/v2//reg.example/open/app/manifests/v1":                  400,
		"/v2//":                                                   400,
		reg + "closed/../open/app/manifests/v1":                   400,
		reg + "open/app/../../closed/app/manifests/v1":            400,
		reg + "open/app/manifests/..":                             400,
		reg + "open/app/manifests/..v":                            400,
		reg + "open/a..b/manifests/v1":                            400,
		"/v2/../v2/reg.example/open/app/manifests/v1":             400,
		"/../etc/passwd":                                          400,
		reg + "open/./app/manifests/v1":                           400,
		reg + "./open/app/manifests/v1":                           400,
		reg + "open/app/manifests/.":                              400,
		reg + `open\app/manifests/v1`:                             400,
		reg + "open%5Capp/manifests/v1":                           400,
		reg + "open/app/manifests/v1/":                            404,
		reg + "open/app/manifests/":                               400,
		reg + "open/app/manifests":                                404,
		reg + "open/app/tags/list/":                               404,
		reg + "open/app/":                                         404,
		reg + "open/app":                                          404,
		"/v2/reg.example":                                         404,
		"/v2":                                                     404,
		"/v1/":                                                    404,
		"/":                                                       404,
		"/V2/reg.example/open/app/manifests/v1":                   404,
		"/v2/manifests/v1":                                        404,
		"/v2//manifests/v1":                                       400,
		reg + "Open/app/manifests/v1":                             400,
		reg + "open/APP/manifests/v1":                             400,
		reg + "open/app/Manifests/v1":                             404,
		reg + "open/-app/manifests/v1":                            400,
		reg + "open/app-/manifests/v1":                            400,
		reg + "open/a___b/manifests/v1":                           400,
		reg + "open/a.-b/manifests/v1":                            400,
		reg + "open/äpp/manifests/v1":                             400,
		reg + "open/app;x/manifests/v1":                           400,
		reg + "open/app:v1/manifests/v1":                          400,
		reg + "open/app@sha256:" + hex + "/manifests/v1":          400,
		reg + "open/app,x/manifests/v1":                           400,
		reg + "open/app+x/manifests/v1":                           400,
		reg + "open/~app/manifests/v1":                            400,
		reg + name255 + "/manifests/v1":                           403, // 255 bytes are a name, of no repository
		reg + name255 + "a/manifests/v1":                          400,
		reg + strings.Repeat("a", 4000) + "/manifests/v1":         400,
		reg + "open/app/manifests/" + strings.Repeat("t", 129):    400,
		reg + "open/app/manifests/-v1":                            400,
		reg + "open/app/manifests/.v1":                            400,
		reg + "open/app/manifests/v1;x":                           400,
		reg + "open/app/manifests/v1+x":                           400,
		reg + "open/app/manifests/v1@sha256:" + hex:               400,
		reg + "open/app/manifests/:":                              400,
		reg + "open/app/manifests/sha256:":                        400,
		reg + "open/app/manifests/sha256:" + hex[1:]:              400,
		reg + "open/app/manifests/sha256:" + hex + "0":            400,
		reg + "open/app/manifests/sha256:" + strings.ToUpper(hex): 400,
		reg + "open/app/manifests/SHA256:" + hex:                  400,
		reg + "open/app/manifests/md5:" + hex[:32]:                400,
		reg + "open/app/manifests/sha384:" + hex + hex[:32]:       400,
		reg + "open/app/manifests/sha512:" + hex:                  400,
		reg + "open/app/manifests/sha256+b64:" + hex:              400,
		reg + "open/app/blobs/v1":                                 400,
		reg + "open/app/blobs/sha256-" + hex:                      400,
		reg + "open/app/blobs/uploads":                            400,
		reg + "open/app/blobs/uploads/":                           404,
		reg + "open/app/referrers/v1":                             400,
		reg + "open/app/referrers/sha256:../../x":                 400,
		"/v2/_catalog":                                            404,
		"/v2/token":                                               404,
		reg + "open/app/_trust/tuf/root.json":                     404,
		"/v2/unlisted.example/open/app/manifests/v1":              404,
		"/v2/unlisted.example:443/open/app/manifests/v1":          404,
		"/v2/localhost/open/app/manifests/v1":                     404,
		"/v2/LOCALHOST/open/app/manifests/v1":                     404,
		"/v2/127.0.0.1:80/open/app/manifests/v1":                  404,
		"/v2/[::1]:80/open/app/manifests/v1":                      404,
		"/v2/user@reg.example/open/app/manifests/v1":              404,
		"/v2/reg.example@evil.example/open/app/manifests/v1":      404,
		"/v2/reg.example.evil.example/open/app/manifests/v1":      404,
		// no status of its own: only "no redirect, no request" is asked
		"/v2/reg.example#/open/app/manifests/v1": 0,
	} {
		r.reg.Forget()
		g := r.raw(http.MethodGet, target)
		if want != 0 && g.status != want {
			t.Errorf("%.100s: status %d, want %d: %.200s", target, g.status, want, g.body)
		}
		if g.status/100 == 3 || g.status == 200 || g.header.Get("Location") != "" {
			t.Errorf("%.100s: status %d to %q", target, g.status, g.header.Get("Location"))
		}
		wellFormed := strings.HasPrefix(target, reg+name255+"/") || strings.HasSuffix(target, "/v..1")
		if len(r.reg.Requests()) > 0 && !wellFormed {
			t.Errorf("%.100s: the upstream was asked %v", target, r.reg.Requests())
		}
		if !json.Valid(g.body) || strings.Contains(g.header.Get("Content-Type"), "html") {
			t.Errorf("%.100s: the answer is not JSON: %.200q", target, g.body)
		}
	}
}

// What is odd and still one name only: the upstream hears exactly that name.
func TestOddNames(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(`[{name: all, images: ["reg.example/**"], static: allow}]`))
	for _, repo := range []string{
		"a",
		"a/manifests/b",
		"manifests/manifests",
		"a/blobs/b",
		"a/tags/list",
		"tags/list/tags",
		"v2/a",
		"a__b/c-d/e.f",
		"a--b",
		"0",
	} {
		image := r.reg.PushImage(repo, "list")
		for _, path := range []string{
			manifests(repo, "list"),
			"/v2/REG.example/" + repo + "/manifests/list",
			"/v2/reg.example:443/" + repo + "/manifests/list",
		} {
			r.reg.Forget()
			r.get(path).served(t, image.Manifest)
			for _, q := range r.reg.Requests() {
				if q.URI != "/v2/"+repo+"/manifests/list" {
					t.Errorf("%s was asked as %s", path, q.URI)
				}
			}
		}
		r.get(blobs(repo, image.Layers[0])).served(t, r.reg.Blob(repo, image.Layers[0]))
		var list struct{ Tags []string }
		err := json.Unmarshal(r.get("/v2/reg.example/"+repo+"/tags/list").body, &list)
		if err != nil || len(list.Tags) != 1 {
			t.Errorf("tags of %s: %v %v", repo, list, err)
		}
	}
}

// Section 2: ns, then Host, then the path's first segment, then the default.
func TestUpstreamChoice(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) {
		o.policies = `[{name: all, images: ["*.example/**", "*.example:*/**", "docker.io/**"], static: allow}]`
		o.hosts = []string{"ghcr.example", "docker.io", "port.example:5001", "written.example:80"}
		o.fallback = "docker.io"
		o.hostnames = map[string]string{"ghcr.gate.test": "ghcr.example", "ported.test:5000": "ghcr.example"}
	})
	for host, reg := range r.regs {
		for _, repo := range []string{
			"app",
			"library/app",
			"team/app",
			"reg.example/app",
			"ghcr.example/app",
			"registry-1.docker.io/app",
			"unlisted.example/app",
		} {
			manifest := fmt.Appendf(nil,
				`{"schemaVersion":2,"config":{"digest":%q},"layers":[],"annotations":{"from":"%s/%s"}}`,
				digest.FromString(""), host, repo)
			reg.PushRaw(repo, "v1", hostile.ImageType, manifest)
		}
	}
	for _, c := range []struct {
		path, host, want string
		status           int
	}{
		{path: "team/app", want: "docker.io/team/app"},
		{path: "app", want: "docker.io/library/app"},
		{path: "library/app", want: "docker.io/library/app"},
		{path: "app?ns=docker.io", want: "docker.io/library/app"},
		{path: "app?ns=index.docker.io", want: "docker.io/library/app"},
		{path: "app?ns=registry-1.docker.io", want: "docker.io/library/app"},
		{path: "docker.io/app", want: "docker.io/library/app"},
		{path: "index.docker.io/app", want: "docker.io/library/app"},
		{path: "registry-1.docker.io/team/app", want: "docker.io/team/app"},
		{path: "Docker.IO/app", want: "docker.io/library/app"},
		{path: "reg.example/team/app", want: "reg.example/team/app"},
		{path: "reg.example/app", want: "reg.example/app"},
		{path: "team/app?ns=reg.example", want: "reg.example/team/app"},
		{path: "app?ns=reg.example", want: "reg.example/app"},
		{path: "app?ns=REG.EXAMPLE", want: "reg.example/app"},
		{path: "app?ns=reg.example:443", want: "reg.example/app"},
		{path: "ghcr.example/app?ns=reg.example", want: "reg.example/ghcr.example/app"}, // ns before the path
		{path: "team/app?ns=reg.example", host: "ghcr.gate.test", want: "reg.example/team/app"},
		{path: "team/app", host: "ghcr.gate.test", want: "ghcr.example/team/app"},
		{path: "team/app", host: "GHCR.gate.test:8080", want: "ghcr.example/team/app"},
		{path: "reg.example/app", host: "ghcr.gate.test", want: "ghcr.example/reg.example/app"}, // Host before the path
		{path: "app", host: "ghcr.gate.test", want: "ghcr.example/app"},
		{path: "team/app", host: "ported.test:5000", want: "ghcr.example/team/app"},
		{path: "team/app", host: "ported.test", want: "docker.io/team/app"},
		{path: "team/app", host: "reg.example", want: "docker.io/team/app"}, // a Host that is not listed says nothing
		{path: "app?ns=reg.example:80", want: "reg.example/app"},
		{path: "reg.example:80/app", want: "reg.example/app"},
		{path: "docker.io:443/app", want: "docker.io/library/app"},
		{path: "app?ns=index.docker.io:443", want: "docker.io/library/app"},
		{path: "app?ns=port.example:5001", want: "port.example:5001/app"},
		{path: "port.example:5001/app", want: "port.example:5001/app"},
		{path: "app?ns=PORT.example:5001", want: "port.example:5001/app"},
		{path: "app?ns=written.example", want: "written.example:80/app"},
		{path: "app?ns=written.example:80", want: "written.example:80/app"},
		{path: "app?ns=written.example:443", status: 404},
		{path: "app?ns=port.example", status: 404},
		{path: "app?ns=port.example:443", status: 404},
		{path: "app?ns=port.example:5002", status: 404},
		{path: "app?ns=reg.example:5001", status: 404},
		{path: "reg.example:5001/app", status: 404},
		{path: "reg.example:8080/team/app", status: 404},
		{path: "docker.io:5000/app", status: 404},
		{path: "unlisted.example/app", status: 404},
		{path: "app?ns=unlisted.example", status: 404},
		{path: "reg.example/app?ns=unlisted.example", status: 404},
		{path: "app?ns=reg.example.unlisted.example", status: 404},
		{path: "app?ns=localhost", status: 404},
		{path: "app?ns=127.0.0.1:22", status: 404},
		{path: "app?ns=[::1]:5000", status: 404},
		{path: "app?ns=a..b", status: 400},
		{path: "app?ns=.", status: 400},
		{path: "app?ns=-x", status: 400},
		{path: "app?ns=x-.example", status: 400},
		{path: "app?ns=reg.example%00", status: 400},
		{path: "app?ns=reg.example%0a", status: 400},
		{path: "app?ns=reg.example:", status: 400},
		{path: "app?ns=reg.example:0", status: 400},
		{path: "app?ns=reg.example:65536", status: 400},
		{path: "app?ns=reg.example:+80", status: 400},
		{path: "app?ns=reg.example:443:443", status: 400},
		{path: "app?ns=:443", status: 400},
		{path: "app?ns=[::1", status: 400},
		{path: "app?ns=", status: 400},
		{path: "app?ns", status: 400},
		{path: "app?ns=reg.example&ns=reg.example", status: 400},
		{path: "app?ns=reg.example&ns=", status: 400},
		{path: "app?ns=reg.example/team", status: 400},
		{path: "app?ns=http://reg.example", status: 400},
		{path: "app?ns=user@reg.example", status: 400},
		{path: "app?ns=reg.example%23", status: 400},
		{path: "app?ns=reg.example%3f", status: 400},
		{path: "app?ns=%zz", status: 400},
		{path: "app?ns=reg.example;ns=x", status: 400},
	} {
		name, query, found := strings.Cut(c.path, "?")
		target := "/v2/" + name + "/manifests/v1"
		if found {
			target += "?" + query
		}
		header := []string{}
		if c.host != "" {
			header = append(header, "Host", c.host)
		}
		g := r.get(target, header...)
		if c.status != 0 {
			if g.status != c.status {
				t.Errorf("%s: status %d, want %d: %s", c.path, g.status, c.status, g.body)
			}
			continue
		}
		if g.status != 200 || !strings.Contains(string(g.body), `"from":"`+c.want+`"`) {
			t.Errorf("%s, Host %q: %d %s, want %s", c.path, c.host, g.status, g.body, c.want)
		}
	}
	r.reload(func(o *options) { o.fallback = "" })
	r.get("/v2/team/app/manifests/v1").refused(t, http.StatusNotFound, "NAME_UNKNOWN")
}

// A tag may hold two dots, and is served as it is listed.
func TestDottedTags(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tag := range []string{"1..2", "v1.0..dirty", "a..", "_..x"} {
		image := r.reg.PushImage("open/app", tag)
		r.get(manifests("open/app", tag)).served(t, image.Manifest)
	}
}

// Policies see the familiar name, whatever way it was asked for.
func TestWaysToName(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) {
		o.hosts, o.fallback = []string{"docker.io"}, "docker.io"
		o.hostnames = map[string]string{"hub.test": "docker.io"}
	})
	hub := r.regs["docker.io"]
	signed, bad := hub.PushImage("library/app", "good"), hub.PushImage("library/app", "bad")
	hub.Sign("library/app", signed.Digest, r.key)
	for _, path := range []string{
		"/v2/app/manifests/%s",
		"/v2/library/app/manifests/%s",
		"/v2/docker.io/app/manifests/%s",
		"/v2/index.docker.io/library/app/manifests/%s",
		"/v2/app/manifests/%s?ns=registry-1.docker.io",
		"/v2/DOCKER.io/app/manifests/%s",
	} {
		r.get(fmt.Sprintf(path, "good")).served(t, signed.Manifest)
		e := r.get(fmt.Sprintf(path, "bad")).refused(t, http.StatusForbidden, "DENIED")
		if d := e.Errors[0].Detail; d.Image != "docker.io/library/app" || d.Digest != bad.Digest.String() {
			t.Errorf("%s: %+v", path, d)
		}
	}
}

func TestWrites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "PROPFIND"} {
		for _, path := range []string{
			manifests("prod/app", "v1"),
			blobs("prod/app", image.Layers[0]),
			"/v2/",
			"/v2/reg.example/prod/app/blobs/uploads/",
			"/",
			"/v2/a%2fb",
		} {
			g := r.raw(method, path, "X-HTTP-Method-Override", "GET")
			e := g.refused(t, http.StatusMethodNotAllowed, "UNSUPPORTED").Errors[0]
			if method != "get" && !strings.Contains(e.Message, "push past the gate") {
				t.Errorf("%s %s: %s", method, path, e.Message)
			}
			if g.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: Allow %q", method, path, g.header.Get("Allow"))
			}
		}
	}
	r.refusedMethodOverride(image)
	if len(r.reg.Requests()) > 0 {
		t.Errorf("the upstream was asked %v", r.reg.Requests())
	}
}

// refusedMethodOverride: a GET stays one, whatever a header says.
func (r *rig) refusedMethodOverride(image hostile.Image) {
	r.t.Helper()
	r.get(manifests("prod/app", "v1"), "X-HTTP-Method-Override", "DELETE").served(r.t, image.Manifest)
	for _, q := range r.reg.Requests() {
		if q.Method != http.MethodGet && q.Method != http.MethodHead {
			r.t.Errorf("the upstream was asked %s", q)
		}
	}
	r.reg.Forget()
}

// Section 2: no header of the client's reaches the upstream but a blob's range.
func TestClientHeaders(t *testing.T) {
	t.Parallel()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("of-the-gate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*options){
		"anonymous":        func(*options) {},
		"with credentials": func(o *options) { o.password = password },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, change)
			image := r.signed("v1")
			header := []string{
				"Authorization",
				"Bearer stolen-from-client",
				"Proxy-Authorization",
				"Basic c3RvbGVuLWZyb20tY2xpZW50",
				"Cookie",
				"session=stolen-from-client",
				"X-Forwarded-For",
				"10.9.8.7",
				"X-Forwarded-Host",
				"evil.example",
				"X-Forwarded-Proto",
				"gopher",
				"Forwarded",
				"for=10.9.8.7",
				"X-Real-Ip",
				"10.9.8.7",
				"X-Registry-Auth",
				"c3RvbGVu",
				"X-Original-Url",
				"/v2/closed/app/manifests/v1",
				"X-Rewrite-Url",
				"/v2/x",
				"Referer",
				"http://evil.example",
				"Origin",
				"http://evil.example",
				"Accept",
				"application/vnd.docker.distribution.manifest.v1+prettyjws",
				"Accept-Encoding",
				"gzip, br",
				"User-Agent",
				"evil/1",
				"If-None-Match",
				`"x"`,
				"Range",
				"bytes=0-1",
				"If-Range",
				`"x"`,
				"Te",
				"trailers",
				"Upgrade",
				"h2c",
				"Via",
				"1.1 evil",
				"X-Evil",
				"1",
				"Expect",
				"",
				"Tracestate",
				"evil=stolen-from-client",
				"Baggage",
				"user=stolen-from-client",
			}
			r.get(manifests("prod/app", "v1"), header...).served(t, image.Manifest)
			r.get(manifests("prod/app", image.Digest), header...).served(t, image.Manifest)
			r.get(blobs("prod/app", image.Layers[0]), header...)
			r.head(blobs("prod/app", image.Layers[0]), header...)
			r.get("/v2/reg.example/prod/app/tags/list", header...)
			r.get("/v2/reg.example/prod/app/referrers/"+image.Digest.String(), header...)
			ours := map[string]bool{"User-Agent": true, "Accept": true, "Accept-Encoding": true, "Range": true}
			for _, q := range r.reg.Requests() {
				for name, values := range q.Header {
					if !ours[name] {
						t.Errorf("%s carried %s: %q", q, name, values)
					}
				}
				if q.Header.Get("User-Agent") != "pullgate/test" || q.Header.Get("Accept-Encoding") != "identity" ||
					strings.Contains(q.Header.Get("Accept"), "v1+prettyjws") {
					t.Errorf("%s: %v", q, q.Header)
				}
				if strings.Contains(q.Host, "evil") || q.Header.Get("Range") != "" && q.Kind != hostile.Blobs {
					t.Errorf("%s: Host %s, Range %s", q, q.Host, q.Header.Get("Range"))
				}
			}
		})
	}
}

// The trace goes on to the upstream only with a span of the gate's own; what a
// client wrote into traceparent and tracestate is the client's.
func TestClientTrace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	g := r.get(manifests("prod/app", "v1"),
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"Tracestate", "vendor=written-by-the-client")
	g.served(t, image.Manifest)
	for _, q := range r.reg.Requests() {
		if s := q.Header.Get("Tracestate"); s != "" {
			t.Errorf("%s carried the client's tracestate %q", q, s)
		}
	}
}

// Response headers are an allow-list: what a registry adds stays there.
func TestUpstreamHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.reg.On(
		hostile.AddHeaders(
			"Set-Cookie",
			"a=b",
			"Location",
			"http://evil.example",
			"Content-Disposition",
			"attachment",
			"Www-Authenticate",
			`Bearer realm="http://evil.example"`,
			"Access-Control-Allow-Origin",
			"*",
			"X-Evil",
			"1",
			"Refresh",
			"0",
			"Link",
			"<http://evil.example>; rel=preload",
			"Warning",
			`299 - "trust me"`,
			"Pullgate-Decision",
			"forged",
			"Server",
			"evil",
			"Oci-Subject",
			"sha256:x",
			"Etag",
			`"forged"`,
			"Cache-Control",
			"public, max-age=31536000",
		),
	)
	allowed := map[string]bool{
		"Content-Type":                    true,
		"Content-Length":                  true,
		"Docker-Content-Digest":           true,
		"Etag":                            true,
		"Cache-Control":                   true,
		"X-Content-Type-Options":          true,
		"Pullgate-Decision":               true,
		"Docker-Distribution-Api-Version": true,
		"Date":                            true,
		"Accept-Ranges":                   true,
		"Content-Range":                   true,
		"Retry-After":                     true,
	}
	for _, path := range []string{
		manifests("prod/app", "v1"),
		blobs("prod/app", image.Layers[0]),
		manifests("prod/app", "missing"),
	} {
		g := r.get(path)
		for name := range g.header {
			if !allowed[name] {
				t.Errorf("%s: %s: %q", path, name, g.header[name])
			}
		}
		if strings.Contains(g.header.Get("Cache-Control"), "public") ||
			strings.Contains(g.header.Get("Etag"), "forged") ||
			g.header.Get("Pullgate-Decision") == "forged" {
			t.Errorf("%s: %v", path, g.header)
		}
	}
}

// One line for each request, and no secret in any.
func TestDecisionLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	bad := r.reg.PushImage("prod/app", "bad")
	for tag, status := range map[string]int{"broken": 500, "forbidden": 403, "limited": 429} {
		r.reg.On(hostile.Status(status).At(hostile.For(tag)))
	}
	secret := []string{
		"Authorization",
		"Bearer very-secret",
		"Cookie",
		"very-secret",
		"Proxy-Authorization",
		"very-secret",
		"User-Agent",
		`client/1 "quoted"`,
	}
	for _, c := range []struct {
		method, path, outcome string
		status                float64
		level                 string
	}{
		{"GET", manifests("prod/app", "v1"), "allowed", 0, "INFO"},
		{"HEAD", manifests("prod/app", "v1"), "allowed", 0, "INFO"},
		{"GET", blobs("prod/app", image.Layers[0]), "allowed", 0, "INFO"},
		{"GET", manifests("prod/app", "bad"), "denied", 403, "WARN"},
		{"HEAD", manifests("prod/app", "bad"), "denied", 403, "WARN"},
		{"GET", blobs("prod/app", bad.Layers[0]), "unknown", 403, "WARN"},
		{"GET", manifests("prod/app", "missing"), "error", 404, "INFO"},
		{"GET", manifests("prod/app", "broken"), "error", 503, "WARN"},
		{"GET", manifests("prod/app", "forbidden"), "error", 403, "WARN"},
		{"GET", manifests("prod/app", "limited"), "error", 429, "WARN"},
		{"GET", manifests("prod/app", "sha256:x"), "error", 400, "INFO"},
		{"GET", "/v2/unlisted.example/a/manifests/x", "error", 404, "INFO"},
		{"GET", "/v2/reg.example/prod/app/tags/list", "listed", 0, "INFO"},
		{"GET", "/v2/reg.example/closed/app/tags/list", "error", 403, "WARN"},
	} {
		before := len(r.log.lines(t))
		g := r.do(c.method, c.path, secret...)
		lines := r.log.lines(t)[before:]
		if len(lines) != 1 {
			t.Fatalf("%s %s: %d log lines", c.method, c.path, len(lines))
		}
		line := lines[0]
		status, _ := line["status"].(float64)
		if line["outcome"] != c.outcome || line["method"] != c.method || status != c.status ||
			line["level"] != c.level {
			t.Errorf("%s %s: %v", c.method, c.path, line)
		}
		if id := g.header.Get("Pullgate-Decision"); id != "" && line["decision"] != id {
			t.Errorf("%s %s: decision %v in the log, %s in the answer", c.method, c.path, line["decision"], id)
		}
	}
	if text := r.log.String(); strings.Contains(text, "very-secret") {
		t.Errorf("the log holds a secret: %s", text)
	}
}

// A refusal sends people to the log with an id: the answer must carry it.
func TestCouldNotTell(t *testing.T) {
	t.Parallel()
	for _, trick := range []hostile.Trick{hostile.Status(500), hostile.LieAboutDigest} {
		r := newRig(t)
		r.signed("v1")
		r.reg.On(trick)
		g := r.get(manifests("prod/app", "v1"))
		if !strings.Contains(string(g.body), "decision id") {
			continue // it does not speak of one
		}
		lines := r.log.lines(t)
		if id := g.header.Get("Pullgate-Decision"); id == "" || lines[len(lines)-1]["decision"] != id {
			t.Errorf("%s: the message speaks of a decision id, the answer has %q: %d %s",
				trick.Name, id, g.status, g.body)
		}
	}
}

// Promise 7: what a registry writes makes neither a log line nor an answer long.
func TestHostileText(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x\\n<script>", 50_000)
	for name, c := range map[string]struct{ body, mediaType string }{
		"media type":     {`{"schemaVersion":2,"mediaType":"` + long + `"}`, hostile.ImageType},
		"schema version": {`{"schemaVersion":` + strings.Repeat("9", 500_000) + `}`, hostile.ImageType},
		"unknown key":    {`{"` + long + `":1,"` + long + `":2}`, hostile.ImageType},
		"digest":         {`{"schemaVersion":2,"config":{"digest":"` + long + `"},"layers":[]}`, hostile.ImageType},
		"annotations":    {`{"schemaVersion":2,"annotations":{"` + long + `":1,"` + long + `":2}}`, hostile.ImageType},
		"content type":   {`{"schemaVersion":2}`, "application/" + strings.Repeat("x", 30_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.reg.PushRaw("prod/app", "v1", c.mediaType, []byte(c.body))
			g := r.get(manifests("prod/app", "v1"))
			g.refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
			if len(g.body) > 4096 {
				t.Errorf("an answer of %d bytes", len(g.body))
			}
			if n := len(r.log.String()); n > 8192 {
				t.Errorf("a log line of %d bytes", n)
			}
		})
	}
}

// Error answers are JSON whatever a client or a signature calls itself.
func TestErrorEnvelope(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(`
- {name: 'a "quoted" \ <policy> é 💥', images: ["reg.example/prod/**"], authorities: [{name: 'k"e\y', key: KEY}]}
`))
	image := r.reg.PushImage("prod/app", "v1")
	honest := string(hostile.Payload("prod/app", image.Digest))
	payload := strings.Replace(honest, image.Digest.String(), `sha256:\"}\u0000\u2028<script>`, 1)
	r.layered(image.Digest, hostile.SignatureLayer([]byte(payload), r.key))
	g := r.get(manifests("prod/app", "v1"))
	e := g.refused(t, http.StatusForbidden, "DENIED").Errors[0]
	if e.Detail.Policy != `a "quoted" \ <policy> é 💥` || strings.ContainsAny(e.Message, "\x00\n\u2028") {
		t.Errorf("%+v", e)
	}
	for _, target := range []string{
		`/v2/"}],"x":[{/manifests/v1`,
		"/v2/unlisted.example\"\\/a/manifests/v1",
		"/v2/\xff\xfe/manifests/\x80",
		"/v2/a?ns=%22%5c%00%ff",
		"/v2/a/manifests/v1?ns=%22%00%ff\x7f",
		"/v2/<script>alert(1)</script>.example/a/manifests/v1",
	} {
		g := r.raw(http.MethodGet, target)
		var v refusal
		if g.status == 400 && strings.HasPrefix(g.header.Get("Content-Type"), "text/plain") {
			continue // net/http refused the request line itself
		}
		if err := json.Unmarshal(g.body, &v); err != nil || g.status/100 != 4 || len(v.Errors) != 1 {
			t.Errorf("%q: %d %v %q", target, g.status, err, g.body)
		}
		if strings.Contains(string(g.body), "<script>") || g.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%q: %q %v", target, g.body, g.header)
		}
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.get("/v2/")
	g.served(t, []byte("{}"))
	if g.header.Get("Docker-Distribution-Api-Version") != "registry/2.0" {
		t.Errorf("%v", g.header)
	}
	if len(r.reg.Requests()) != 0 {
		t.Error("the upstream was asked")
	}
}
