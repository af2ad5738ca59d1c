package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/proxy/intercept"
	"github.com/pullgate/pullgate/test/rig"
)

// writeAuthority writes ca.crt and ca.key below dir.
func writeAuthority(t *testing.T, dir string, names ...string) *x509.Certificate {
	t.Helper()
	key, err := intercept.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := intercept.MakeAuthority(names, key, time.Now(), time.Now().Add(100*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	rig.Replace(
		t,
		filepath.Join(dir, "ca.key"),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	)
	if err := os.Chmod(filepath.Join(dir, "ca.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	rig.Replace(
		t,
		filepath.Join(dir, "ca.crt"),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
	)
	return c
}

// TestInterceptProblems: what would leave a way around the gate, or have nodes trust
// too much, is an error with its line.
func TestInterceptProblems(t *testing.T) {
	t.Parallel()
	const files = ", caCertFile: ca.crt, caKeyFile: ca.key"
	const upstreams = "upstreams: [{host: reg.example}, {host: docker.io}, {host: \"*.pkg.example.dev\"}]\n"
	names := []string{"reg.example", "registry-1.docker.io", "index.docker.io", "pkg.example.dev"}
	for name, row := range map[string]struct {
		text, want string
		prepare    func(t *testing.T, dir string)
	}{
		"good":         {"intercept: {listen: \":0\"" + files + ", tunnel: [\"*.debian.org\"]}\n", "", nil},
		"no authority": {"intercept: {listen: \":0\"}\n", "caCertFile and caKeyFile", nil},
		"no listener":  {"intercept: {tunnel: [a.example]}\n", "no effect", nil},
		"bad address":  {"intercept: {listen: x" + files + "}\n", "intercept.listen is \"x\"", nil},
		"tunnel": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [reg.example]}\n",
			"past the gate to the upstream reg.example",
			nil,
		},
		"tunnel case": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [REG.example]}\n",
			"past the gate to the upstream reg.example",
			nil,
		},
		"tunnel port": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [\"reg.example:8443\"]}\n",
			"past the gate to the upstream reg.example",
			nil,
		},
		"tunnel to hub": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [registry-1.docker.io]}\n",
			"past the gate to the upstream docker.io",
			nil,
		},
		"tunnel below": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [\"*.docker.io\"]}\n",
			"past the gate to the upstream docker.io",
			nil,
		},
		"tunnel into a wildcard": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [\"eu.pkg.example.dev\"]}\n",
			"past the gate to the upstream *.pkg.example.dev", nil,
		},
		"tunnel of all": {"intercept: {listen: \":0\"" + files + ", tunnel: [\"*\"]}\n", "intercept.tunnel \"*\"", nil},
		"tunnel by address": {
			"intercept: {listen: \":0\"" + files + ", tunnel: [\"192.0.2.1\"]}\n", "no host name", nil,
		},
		"too wide": {
			"intercept: {listen: \":0\"" + files + "}\n", "good for all of amazonaws.example",
			func(t *testing.T, dir string) {
				t.Helper()
				rig.Replace(t, filepath.Join(dir, "more"), "*.dkr.ecr.*.amazonaws.example")
			},
		},
		"a readable key": {
			"intercept: {listen: \":0\"" + files + "}\n", "can be read by others (mode 0644)",
			func(t *testing.T, dir string) {
				t.Helper()
				if err := os.Chmod(filepath.Join(dir, "ca.key"), 0o644); err != nil {
					t.Fatal(err)
				}
			},
		},
		"an upstream that it does not cover": {
			"intercept: {listen: \":0\"" + files + "}\n", "may not issue for index.docker.io",
			func(t *testing.T, dir string) {
				t.Helper()
				writeAuthority(t, dir, "reg.example", "pkg.example.dev")
			},
		},
		"no files": {
			"intercept: {listen: \":0\"" + files + "}\n", "intercept.caCertFile",
			func(t *testing.T, dir string) {
				t.Helper()
				if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
					t.Fatal(err)
				}
			},
		},
		"no key in it": {
			"intercept: {listen: \":0\"" + files + "}\n", "holds no PEM key",
			func(t *testing.T, dir string) {
				t.Helper()
				rig.Replace(t, filepath.Join(dir, "ca.key"), "x")
			},
		},
		"a key beside the certificate": {
			"intercept: {listen: \":0\"" + files + "}\n", "nodes get this file",
			func(t *testing.T, dir string) {
				t.Helper()
				text, err := os.ReadFile(filepath.Join(dir, "ca.key"))
				if err != nil {
					t.Fatal(err)
				}
				rig.Replace(t, filepath.Join(dir, "ca.crt"), string(text))
			},
		},
		"redirects of clients with names": {
			"intercept: {tlsListen: \":0\"" + files + "}\nclients: {auth: [mtls]}\n",
			"does not go with clients.auth",
			nil,
		},
		"certificates alone": {
			"intercept: {listen: \":0\"" + files + "}\nclients: {auth: [mtls]}\n", "needs basic or oidc", nil,
		},
		"passwords over plain http": {
			"intercept: {listen: \":0\"" + files + "}\nclients: {auth: [basic], htpasswdFile: users}\n",
			"over plain http",
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeAuthority(t, dir, names...)
			if row.prepare != nil {
				row.prepare(t, dir)
			}
			text := upstreams + row.text
			if more, err := os.ReadFile(filepath.Join(dir, "more")); err == nil {
				text = strings.Replace(text, "]\n", ", {host: \""+string(more)+"\"}]\n", 1)
			}
			_, problems := server.Load(rig.Write(t, dir, "pullgate.yaml", text), nil, telemetry.None())
			found := row.want == "" && len(problems) == 0
			for _, p := range problems {
				found = found || row.want != "" && p.Line > 0 && strings.Contains(p.Message, row.want)
			}
			if !found {
				t.Errorf("no problem says %q; there are %v", row.want, problems)
			}
		})
	}
}

// TestIntercepting: through the proxy an admitted image comes and a refused one does
// not, another authority is taken up while the gate runs, and what a reload takes
// away is gone.
func TestIntercepting(t *testing.T) {
	t.Parallel()
	proxy := rig.FreeAddr(t)
	var dir string
	settings := func(r *rig.Rig) string {
		return r.Keyed(t) + "intercept: {listen: \"" + proxy + "\", caCertFile: ca.crt, caKeyFile: ca.key}\n"
	}
	var first *x509.Certificate
	r := rig.Start(t, func(r *rig.Rig) string {
		dir = r.Dir
		first = writeAuthority(t, dir, "demo.example")
		return settings(r)
	})

	get := func(ca *x509.Certificate, path string) (int, string, error) {
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		tr := &http.Transport{
			Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}),
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
		}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("https://demo.example" + path)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), err
	}
	for path, want := range map[string]int{
		"/v2/":                                         200,
		"/v2/signed/manifests/latest":                  200,
		"/v2/unsigned/manifests/latest":                403,
		"/v2/other.example/signed/manifests/latest":    404, // a repository's path here, not a host
		"/v2/signed/manifests/latest?ns=other.example": 400,
		"/v2/signed/manifests/latest?ns=demo.example":  400,
	} {
		if status, body, err := get(first, path); err != nil || status != want {
			t.Errorf("%s: %d %v %.300s, not %d", path, status, err, body, want)
		}
	}

	second := writeAuthority(t, dir, "demo.example")
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := get(second, "/v2/"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the other authority is not taken up")
		}
	}
	if _, _, err := get(first, "/v2/"); err == nil {
		t.Error("the first one still signs")
	}

	section, _, _ := strings.Cut(r.Config[strings.Index(r.Config, "intercept:"):], "\n")
	rig.Replace(t, filepath.Join(dir, "pullgate.yaml"), strings.Replace(r.Config, section, "", 1))
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := get(second, "/v2/"); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it still intercepts")
		}
	}
}
