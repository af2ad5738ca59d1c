package profiles_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/profiles"
)

// TestRedirects: a gate that hands redirects on does so after the verdict, with an
// absolute URL that is good now, that a client without any credentials can follow,
// and that nothing in between may keep.
func TestRedirects(t *testing.T) {
	t.Parallel()
	for _, p := range profiles.Table() {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, p, usual(p), handsOn)
			i := g.pushSigned(g.profile.Repository, "v1")
			unsigned := g.push(g.profile.Repository, "unsigned")

			g.manifest(unsigned.repository, unsigned.tag).refused(http.StatusForbidden, "DENIED", "no signature found")
			g.refusesParts(unsigned)
			g.manifest(i.repository, i.tag).served(i.index)
			g.manifest(i.repository, i.child.Digest.String()).served(i.child.Manifest)
			for range 2 { // the second URL is another one, and good
				for d, b := range i.blobs {
					g.followed("blobs/"+d.String(), b)
				}
				g.clock.advance(p.Blobs.Life + time.Second)
			}
		})
	}
}

// followed gets a blob as a runtime does: where the gate says that it is.
func (g *gate) followed(part string, want []byte) {
	g.t.Helper()
	if g.profile.Blobs.Status == 0 { // there is nothing to hand on
		g.ask(http.MethodGet, g.profile.Repository, part).served(want)
		return
	}

	status, header := g.redirect(part)
	location, err := url.Parse(header.Get("Location"))
	store, fromStore := url.Parse(g.profile.Blobs.To)
	if err != nil || fromStore != nil {
		g.t.Fatal(err, fromStore)
	}
	host := store.Host
	if host == "" {
		host = g.profile.Host
	}
	if status != http.StatusTemporaryRedirect || location.Scheme != "https" || location.Host != host {
		g.t.Fatalf("%s: %d, Location %s; want 307 to %s", part, status, location, host)
	}
	if said := header.Get("Cache-Control"); said != "no-store" {
		g.t.Errorf("%s: Cache-Control %q", part, said)
	}
	if text := location.String(); strings.Contains(text, profiles.Password) || strings.Contains(text, "token") {
		g.t.Errorf("%s: the Location shows what the registry was shown: %s", part, text)
	}

	if got := g.fetch(location.String()); got != string(want) {
		g.t.Errorf("%s: %d bytes at %s; want %d", part, len(got), location.Host, len(want))
	}
}

// redirect asks the gate for a part, and does not follow.
func (g *gate) redirect(part string) (int, http.Header) {
	g.t.Helper()
	at := g.url + "/v2/" + g.profile.Host + "/" + g.profile.Repository + "/" + part
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, at, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// fetch gets a URL of the tests' internet, under the gate's User-Agent, by which
// that knows whose registry is meant.
func (g *gate) fetch(at string) string {
	g.t.Helper()
	transport := &http.Transport{
		Proxy:              http.ProxyFromEnvironment,
		TLSClientConfig:    internet.Roots(),
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, at, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("User-Agent", g.agent)
	req.Header.Set("Accept-Encoding", "identity")

	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatalf("%s: %d %v", at, resp.StatusCode, err)
	}
	return string(body)
}
