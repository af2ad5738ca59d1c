package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/test/rig"
)

// What is wrong with wildcards, mirrors and their credentials is a problem of its
// own line.
func TestBadUpstreams(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ entry, want string }{
		"all hosts":           {"host: '*'", "last two labels"},
		"a whole domain":      {"host: '*.dev'", "last two labels"},
		"a public suffix":     {"host: '*.co.uk'", "anyone can register"},
		"a part of a label":   {"host: 'a*.pkg.dev'", "whole labels"},
		"a path":              {"host: '*.pkg.dev/x'", "whole labels"},
		"a password":          {"host: '*.pkg.dev', auth: {type: basic, username: u, passwordFile: p}", "every host"},
		"a token":             {"host: '*.pkg.dev', auth: {type: token, file: p}", "every host"},
		"a client's own":      {"host: '*.pkg.dev', auth: {type: passthrough}", "every host"},
		"what may come":       {"host: '*.pkg.dev', auth: {type: future}", "every host"},
		"hostnames":           {"host: '*.pkg.dev', hostnames: [gate.example]", "select one registry"},
		"mirrors of many":     {"host: '*.pkg.dev', urls: ['https://a.example']", "stands for several"},
		"url and urls":        {"host: a.dev, url: 'https://a.dev', urls: ['https://b.dev']", "both set"},
		"a mirror twice":      {"host: a.dev, urls: ['https://b.dev', 'https://b.dev']", "twice"},
		"no mirror":           {"host: a.dev, urls: ['']", "empty URL"},
		"a mirror's user":     {"host: a.dev, urls: ['https://u:p@b.dev']", "without user"},
		"too many mirrors":    {"host: a.dev, urls: [" + mirrorList(9) + "]", "there may be 8"},
		"a password for none": {"host: a.dev, urls: ['https://b.dev', 'https://c.dev'], " + password, "none of urls"},
		"blobs":               {"host: a.dev, blobs: proxy", "stream, redirect"},
		"blobs, passthrough":  {"host: a.dev, blobs: redirect, auth: {type: passthrough}", "does not go with"},
		"a store's URL":       {"host: a.dev, stores: ['http://minio.dev']", "is no host"},
		"one at a time":       {"host: a.dev, concurrency: 1", "from 2"},
		"no bound":            {"host: a.dev, concurrency: 1000000", "from 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := load(t, "clients: {auth: anonymous}\nupstreams:\n  - {"+row.entry+"}\n")
			found := false
			for _, p := range problems {
				found = found || strings.HasPrefix(p, "3: ") && strings.Contains(p, row.want)
			}
			if !found {
				t.Errorf("no problem says %q; there are %q", row.want, problems)
			}
		})
	}
}

const password = "auth: {type: basic, username: u, passwordFile: password}"

func mirrorList(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("'https://m%d.example'", i))
	}
	return strings.Join(list, ", ")
}

// load loads a configuration, and returns its problems with their lines.
func load(t *testing.T, text string) (*server.Loaded, []string) {
	t.Helper()
	dir := t.TempDir()
	rig.Write(t, dir, "password", "secret")
	rig.Write(t, dir, "config.json", "{}")
	rig.Write(t, dir, "pullgate.yaml", text)
	l, problems := server.Load(filepath.Join(dir, "pullgate.yaml"), os.Environ(), telemetry.None())
	var list []string
	for _, p := range problems {
		list = append(list, fmt.Sprintf("%d: %s", p.Line, p.Message))
	}
	return l, list
}

func TestGoodUpstreams(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"host: '*.pkg.dev'",
		"host: '*.dkr.ecr.*.amazonaws.com', blobs: redirect, concurrency: 10000",
		"host: '*.dkr.ecr.*.amazonaws.com', auth: {type: ecr}",
		"host: '*.azurecr.io', auth: {type: acr}",
		"host: '*.pkg.dev', auth: {type: gcr}",
		"host: '*.nexus.example:5001', auth: {type: dockerConfig, file: config.json}",
		"host: '*.pkg.dev', auth: {type: anonymous}",
		"host: a.dev, urls: ['https://b.dev', 'https://a.dev'], " + password,
		"host: docker.io, urls: ['https://m.example', 'https://registry-1.docker.io'], " + password,
		"host: a.dev, urls: ['https://b.dev:5000'], " + password,
		"host: a.dev, urls: ['https://b.dev', 'http://c.dev'], " +
			"auth: {type: basic, username: u, passwordFile: password, realms: [c.dev]}",
		"host: a.dev, blobs: stream, concurrency: 2, stores: [minio.internal, '10.0.0.5:9000']",
	} {
		if _, problems := load(t, "clients: {auth: anonymous}\nupstreams:\n  - {"+entry+"}\n"); len(problems) > 0 {
			t.Errorf("%s: %q", entry, problems)
		}
	}
}

// Policies see the host that the client named, and metrics the entry.
func TestWildcardUpstream(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		return strings.ReplaceAll(r.Base(), "demo.example", "'*.pkg.example'") +
			"policies: [{name: one, images: [\"one.pkg.example/**\"], authorities: [{name: k, key: key.pub}]}]\n"
	})
	for path, want := range map[string]int{
		"one.pkg.example/signed/manifests/latest":      http.StatusOK,
		"ONE.pkg.example/signed/manifests/latest":      http.StatusOK,
		"one.pkg.example:80/signed/manifests/latest":   http.StatusOK,
		"one.pkg.example/unsigned/manifests/latest":    http.StatusForbidden,
		"two.pkg.example/signed/manifests/latest":      http.StatusForbidden,
		"two.one.pkg.example/signed/manifests/latest":  http.StatusNotFound,
		"one.pkg.example:5000/signed/manifests/latest": http.StatusNotFound,
		"one.pkg.example./signed/manifests/latest":     http.StatusNotFound,
		"pkg.example/signed/manifests/latest":          http.StatusNotFound,
		"evil-pkg.example/signed/manifests/latest":     http.StatusNotFound,
		"*.pkg.example/signed/manifests/latest":        http.StatusNotFound,
		"-x.pkg.example/signed/manifests/latest":       http.StatusNotFound,
	} {
		if got, body := rig.Get(t, "http://"+r.Gate+"/v2/"+path); got != want {
			t.Errorf("%s: %d, want %d: %s", path, got, want, body)
		}
	}
	r.UntilMetric(t, `upstream="*.pkg.example"`)
	if _, text := rig.Get(t, "http://"+r.Admin+"/metrics"); strings.Contains(text, "one.pkg.example") {
		t.Error("metrics name what a client has named")
	}
}

// A password goes to the registry itself, and to no other mirror of it.
func TestMirrorsPassword(t *testing.T) {
	var shown [2]atomic.Int64
	var ports [2]string
	for i := range shown {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Header.Get("Authorization") != "" {
				shown[i].Add(1)
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}))
		t.Cleanup(s.Close)
		_, ports[i], _ = strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	}
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "password", "secret")
		return fmt.Sprintf("listen: %s\nadmin: {listen: %q}\ndefaultAction: allow\nupstreams: [{host: '127.0.0.1:%s', "+
			"urls: ['http://localhost:%s', 'http://127.0.0.1:%s'], %s}]\n",
			r.Gate, r.Admin, ports[1], ports[0], ports[1], password)
	})
	status, body := rig.Get(t, "http://"+r.Gate+"/v2/127.0.0.1:"+ports[1]+"/app/manifests/v1")
	if shown[0].Load() > 0 || shown[1].Load() == 0 {
		t.Errorf("%d requests with the password to the mirror, %d to the registry: %d %s",
			shown[0].Load(), shown[1].Load(), status, body)
	}
}
