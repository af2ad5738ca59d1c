package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/pullgate/pullgate/policy"
)

const (
	maxMirrors     = 8
	maxConcurrency = 10_000
)

// IsWildcard reports whether the entry's host stands for several.
func (u Upstream) IsWildcard() bool { return strings.Contains(u.Host, "*") }

// Addresses are the URLs that the registry is asked at, in order; the empty one
// stands for the host's own.
func (u Upstream) Addresses() []string {
	if len(u.URLs) > 0 {
		return u.URLs
	}
	return []string{u.URL}
}

// hostBound are the types of credentials that are bound to hosts by nature. Any
// other would be shown to whichever host a client names and a wildcard stands for.
var hostBound = map[string]bool{
	"":                   true,
	"anonymous":          true,
	"dockerConfig":       true,
	"credentialProvider": true,
	"ecr":                true,
	"gcr":                true,
	"acr":                true,
}

// wildcard checks an entry whose host stands for several.
func (k *checks) wildcard(at string, u Upstream) {
	pattern, err := policy.ParseHostPattern(u.Host)
	if err != nil {
		k.add(at+".host", "host %s: %v; write it like *.pkg.dev, each * for one label", u.Host, err)
		return
	}

	suffix := pattern.Suffix()
	if public, official := publicsuffix.PublicSuffix(suffix); official && public == suffix {
		k.add(at+".host", "host %s: anyone can register a name under %s, and the gate would ask it", u.Host, suffix)
	}
	if !hostBound[u.Auth.Type] {
		k.add(at+".auth",
			"auth type %s with host %s would show the credentials to every host that a client names; "+
				"write an entry for each host, or a type that is bound to hosts, such as dockerConfig",
			u.Auth.Type, u.Host)
	}
	if len(u.Hostnames) > 0 {
		k.add(at+".hostnames", "hostnames select one registry, and %s stands for several", u.Host)
	}
	if len(u.URLs) > 0 {
		k.add(at+".urls", "urls are mirrors of one registry, and %s stands for several", u.Host)
	}
}

// mirrors checks the list of URLs of one registry.
func (k *checks) mirrors(at string, u Upstream) {
	if len(u.URLs) == 0 {
		return
	}
	if u.URL != "" {
		k.add(at+".urls", "url and urls are both set: put the url first in urls")
	}
	if len(u.URLs) > maxMirrors {
		k.add(at+".urls", "urls lists %d mirrors; there may be %d", len(u.URLs), maxMirrors)
	}

	for i, text := range u.URLs {
		path := at + ".urls." + strconv.Itoa(i)
		if text == "" {
			k.add(path, "urls lists an empty URL")
		}
		if slices.Contains(u.URLs[:i], text) {
			k.add(path, "urls lists a URL twice")
		}
		k.upstreamURL(path, text)
	}

	if !hostBound[u.Auth.Type] && !slices.ContainsFunc(u.URLs, u.MayShowSecret) {
		k.add(at+".auth",
			"the credentials go to none of urls: they are shown at %s itself, and at hosts under auth.realms",
			u.Host)
	}
}

// MayShowSecret reports whether credentials that are not bound to a host go to
// the registry at address, one of several that mirror each other: only where that
// is the registry's own host, or listed under auth.realms. A mirror is another party.
func (u Upstream) MayShowSecret(address string) bool {
	if len(u.URLs) < 2 {
		return true
	}
	at, err := url.Parse(address)
	if err != nil {
		return false
	}

	own, _ := policy.SplitPort(policy.FamiliarHost(u.Host))
	host := policy.FamiliarHost(at.Hostname())
	return host == own || slices.ContainsFunc(u.Auth.Realms, func(r string) bool {
		return strings.EqualFold(r, host) || strings.EqualFold(r, at.Host)
	})
}

// SecretFor is what authenticates at one of the registry's addresses.
func (u Upstream) SecretFor(address string) Auth {
	if hostBound[u.Auth.Type] || u.MayShowSecret(address) {
		return u.Auth
	}
	return Auth{}
}

// traffic checks how an upstream is used.
func (k *checks) traffic(at string, u Upstream) {
	if u.Blobs != "" {
		k.oneOf(at+".blobs", u.Blobs, "stream", "redirect")
	}
	if u.Blobs == "redirect" && u.Auth.Type == passthrough {
		k.add(at+".blobs", "blobs: redirect does not go with auth type passthrough: "+
			"each of its blobs is asked for with the client's own credentials")
	}
	if u.Auth.Type == passthrough && len(u.URLs) > 0 {
		k.add(at+".urls", "urls does not go with auth type passthrough: "+
			"a client's credentials are for one registry; write url")
	}
	for i, store := range u.Stores {
		if !policy.ValidHost(store) {
			k.add(at+".stores."+strconv.Itoa(i), "stores: %.100q is no host: write a name, perhaps with a port", store)
		}
	}
	if u.Concurrency != 0 && (u.Concurrency < 2 || u.Concurrency > maxConcurrency) {
		k.add(at+".concurrency", "concurrency must be from 2 to %d", maxConcurrency)
	}
}
