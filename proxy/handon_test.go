package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
)

// handsOn puts a registry with `blobs: redirect` behind the gate. It redirects
// blobs to location, if that is not empty; what is asked of it is the rig's.
func (r *rig) handsOn(location string, password ...string) {
	r.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case len(password) > 0 && q.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		case location != "" && strings.Contains(q.URL.Path, "/blobs/") && q.Method == http.MethodGet:
			w.Header()["Location"] = []string{location}
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			r.reg.ServeHTTP(w, q)
		}
	}))
	r.t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	c := upstream.Config{Host: "reg.example", URL: base, UserAgent: "pullgate/test", Redirect: true}
	if len(password) > 0 {
		c.Auth = gateAuth(r.t, password[0])
	}
	up, err := upstream.New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(up.Close)
	r.upstreams["reg.example"] = up
	r.reload()
}

// A redirect goes to the client after the verdict, as the registry issued it.
func TestHandedOnBlob(t *testing.T) {
	t.Parallel()
	layer := random(5000)
	r, image := admitted(t, layer)
	other := r.reg.PushImage("prod/app", "unsigned", random(10))
	const signed = "http://127.0.0.1:9000/bucket/a%2Fb?X-Amz-Signature=0a%2B&X-Amz-Expires=60"
	r.handsOn(signed)

	t.Run("GET", func(t *testing.T) {
		for _, header := range [][]string{nil, {"Range", "bytes=5-9"}} {
			g := r.get(blobs("prod/app", image.Layers[0]), header...)
			if g.status != http.StatusTemporaryRedirect || len(g.body) > 0 {
				t.Fatalf("status %d, %q", g.status, g.body)
			}
			for name, want := range map[string]string{
				"Location":              signed,
				"Cache-Control":         "no-store",
				"Docker-Content-Digest": image.Layers[0].String(),
				"Content-Length":        "0",
			} {
				if got := g.header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if g.header.Get("Pullgate-Decision") == "" || g.header.Get("Www-Authenticate") != "" {
				t.Errorf("header %v", g.header)
			}
		}
		lines := r.log.lines(t)
		if last := lines[len(lines)-1]; last["redirected"] != true || last["outcome"] != "allowed" {
			t.Errorf("logged %v", last)
		}
	})

	t.Run("HEAD", func(t *testing.T) {
		g := r.head(blobs("prod/app", image.Layers[0]))
		if g.status != http.StatusOK || g.length != int64(len(layer)) {
			t.Errorf("status %d, length %d", g.status, g.length)
		}
	})

	t.Run("refused", func(t *testing.T) {
		r.refusedAt("a layer of an image that is not admitted", blobs("prod/app", other.Layers[0]))
		r.refusedAt("a layer of nothing known", blobs("prod/app", image.Digest.Algorithm().FromString("x")))
	})

	t.Run("manifests and listings", func(t *testing.T) {
		r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
	})

	t.Run("a registry that streams", func(t *testing.T) {
		r.handsOn("")
		r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
		r.reg.On(hostile.FlipBlob)
		g, err := r.try(t.Context(), http.MethodGet, blobs("prod/app", image.Layers[0]))
		if err == nil && g.err == nil {
			t.Errorf("a clean %d of wrong bytes", g.status)
		}
	})
}

// What the gate hands on is checked as what it follows, and more: the client asks
// there.
func TestHandedOnLocations(t *testing.T) {
	t.Parallel()
	r, image := admitted(t, random(100))
	password := t.TempDir() + "/password"
	if err := os.WriteFile(password, []byte("secret-password"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, location := range map[string]string{
		"none":                  "",
		"another scheme":        "ftp://cdn.example/x",
		"a user":                "http://user:pw@cdn.example/x",
		"a line":                "http://cdn.example/x\rSet-Cookie: a=b",
		"a control character":   "http://cdn.example/\x01x",
		"a space":               "http://cdn.example/x?a=b c",
		"letters beyond ASCII":  "http://cdn.example/?\u00e4",
		"a backslash":           "http://cdn.example/?a\\b",
		"huge":                  "http://cdn.example/" + strings.Repeat("x", 8<<10),
		"no host":               "http:///x",
		"no URL":                "http://[::1",
		"metadata":              "http://169.254.169.254/latest/meta-data",
		"metadata by its name":  "http://0xa9.254.169.254/x",
		"the password":          "http://cdn.example/?p=secret-password",
		"the password, encoded": "http://cdn.example/?p=secret%2Dpassword",
		"the header":            "http://cdn.example/?a=Z2F0ZTpzZWNyZXQtcGFzc3dvcmQ=",
	} {
		t.Run(name, func(t *testing.T) {
			if location == "" {
				location = " "
			}
			r.handsOn(location, password)
			g := r.get(blobs("prod/app", image.Layers[0]))
			status := http.StatusBadGateway
			if name == "a control character" { // net/http takes it for no answer at all
				status = http.StatusServiceUnavailable
			}
			g.refused(t, status, "UNAVAILABLE")
			if g.header.Get("Location") != "" {
				t.Errorf("Location: %q", g.header.Get("Location"))
			}
			if strings.Contains(r.log.String(), "secret-password") || strings.Contains(r.log.String(), "user:pw") {
				t.Error("the log shows a secret")
			}
		})
	}

	t.Run("relative", func(t *testing.T) {
		r.handsOn("/artifacts-downloads/x?token=1#f", password)
		g := r.get(blobs("prod/app", image.Layers[0]))
		at, err := url.Parse(g.header.Get("Location"))
		if err != nil || at.Scheme != "http" || !strings.HasPrefix(at.Host, "127.0.0.1:") ||
			at.RequestURI() != "/artifacts-downloads/x?token=1" || at.Fragment != "" {
			t.Errorf("status %d, Location %q", g.status, g.header.Get("Location"))
		}
	})
}

// Under warn the redirect carries the warning, and is recorded.
func TestWarnedHandedOnBlob(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMode(policy.Warn))
	image := r.reg.PushImage("prod/app", "v1", random(100))
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.handsOn("http://127.0.0.1:9000/x")
	r.record.drain()

	g := r.get(blobs("prod/app", image.Layers[0]))
	if g.status != http.StatusTemporaryRedirect || g.header.Get("Warning") == "" {
		t.Errorf("status %d, Warning %q", g.status, g.header.Get("Warning"))
	}
	last := r.one("a redirected blob")
	if !last.Redirected || last.Status != http.StatusTemporaryRedirect || last.Outcome != "warned" {
		t.Errorf("recorded %+v", last)
	}
}
