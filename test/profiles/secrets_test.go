package profiles_test

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/pullgate/pullgate/test/profiles"
)

// checkRequests checks how a registry, and every other host, was asked, whatever a
// test was about: by TLS, under the gate's name, in the gate's own words, and with
// credentials where they belong and nowhere else.
func (g *gate) checkRequests() {
	g.t.Helper()
	if g.t.Failed() { // what follows says nothing new
		text := g.log.Text()
		g.t.Log(text[max(0, len(text)-2000):])
		return
	}

	api := g.profile.Host
	if g.profile.API != "" {
		api = g.profile.API
	}
	for _, q := range g.registry.Seen() {
		what := q.Method + " https://" + q.Host + q.URI
		if q.Endpoint == profiles.NoEndpoint {
			g.t.Errorf("%s: the gate has no business there", what)
		}
		if !q.TLS {
			g.t.Errorf("%s: without TLS", what)
		}
		if q.Header.Get("User-Agent") != g.agent || q.Header.Get("Accept-Encoding") != "identity" {
			g.t.Errorf("%s: %v", what, q.Header)
		}
		accept := q.Header.Get("Accept")
		if q.Endpoint == profiles.ManifestsEndpoint && strings.Count(accept, "application/vnd.") != 4 {
			g.t.Errorf("%s: Accept %q", what, accept)
		}
		for _, name := range []string{"Cookie", "Referer", "X-Forwarded-For", "Forwarded", "If-None-Match"} {
			if value := q.Header.Get(name); value != "" {
				g.t.Errorf("%s: %s %q", what, name, value)
			}
		}
		g.checkCredentials(what, q, api)
	}

	if g.log.Say(profiles.Mark) {
		g.t.Error("the gate's log holds a secret")
	}
}

// checkCredentials checks one request: a token goes to the registry's own host, a
// password to the realm, or to a registry that asks for one; a URL holds neither.
func (g *gate) checkCredentials(what string, q profiles.Seen, api string) {
	g.t.Helper()
	shown := q.Header.Get("Authorization")
	kind, _, _ := strings.Cut(shown, " ")
	takesPassword := g.profile.Challenge.Kind == profiles.Basic

	switch {
	case shown == "":
	case shown == "Bearer guest-token" && q.Host != api && g.profile.Manifests.GuestRealm != "":
	case kind == "Bearer" && q.Host == api && q.Endpoint != profiles.RealmEndpoint:
	case kind == "Basic" && q.Endpoint == profiles.RealmEndpoint && g.account != nil:
	case kind == "Basic" && q.Host == api && takesPassword && g.account != nil:
	default:
		g.t.Errorf("%s: %s credentials were shown", what, kind)
	}

	signed := q.Endpoint == profiles.StoreEndpoint // its URL carries the registry's own signature
	if !signed && (strings.Contains(q.URI, profiles.Mark) || strings.Contains(q.URI, secretInBase64())) {
		g.t.Errorf("%s: a secret is in the URL", what)
	}
	if q.Method == http.MethodPost && (q.Endpoint != profiles.RealmEndpoint || g.account == nil) {
		g.t.Errorf("%s: %v was posted", what, q.Form)
	}
}

func secretInBase64() string {
	return strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(profiles.User+":"+profiles.Password)), "=")
}
