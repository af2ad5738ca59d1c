package config

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// upstreams checks the list of upstreams and what depends on it.
func (k *checks) upstreams() {
	if len(k.Upstreams) == 0 {
		k.add("upstreams", "upstreams is empty: list at least one registry, e.g. `- host: docker.io`")
	}

	hosts, names := map[string]string{}, map[string]bool{}
	for i, u := range k.Upstreams {
		at := "upstreams." + strconv.Itoa(i)
		host := policy.FamiliarHost(u.Host)
		switch {
		case u.IsWildcard():
			k.wildcard(at, u)
		case !policy.ValidHost(host):
			k.add(
				at,
				"an upstream needs host: the registry's name as images carry it, e.g. ghcr.io or nexus.example:5001",
			)
			continue
		}

		whole := withPort(host, u)
		switch before, listed := hosts[whole]; {
		case listed && before == host:
			k.add(at+".host", "upstream %s is listed twice", host)
		case listed:
			k.add(at+".host", "upstream %s is listed twice: %s is the same registry", host, before)
		}
		hosts[whole] = host

		for _, n := range u.Hostnames {
			if names[strings.ToLower(n)] {
				k.add(at+".hostnames", "hostname %s selects two upstreams", n)
			}
			names[strings.ToLower(n)] = true
		}

		k.upstreamURL(at+".url", u.URL)
		k.mirrors(at, u)
		k.upstreamAuth(at+".auth", u.Auth)
		k.traffic(at, u)
	}

	if _, ok := k.UpstreamHost(k.DefaultUpstream); k.DefaultUpstream != "" && !ok {
		k.add("defaultUpstream", "defaultUpstream %s is not among the upstreams", k.DefaultUpstream)
	}
	if k.ExposesCredentials(k.Listen) {
		k.add(
			"listen",
			"upstream credentials behind a listener that is not loopback let anyone who reaches it read every private "+
				"image; have clients show who they are (clients.auth), or write `clients: {auth: anonymous}` if that "+
				"is meant",
		)
	}
}

// withPort is a familiar host with the port that it means: the one written, or
// the one that its URL implies.
func withPort(host string, u Upstream) string {
	if bare, port := policy.SplitPort(host); port != "" {
		return policy.FamiliarHost(bare) + ":" + port
	}
	return host + ":" + u.impliedPort()
}

// impliedPort is the port that the upstream's name means when none is written.
func (u Upstream) impliedPort() string {
	address, err := url.Parse(u.Addresses()[0])
	if err != nil { // which is a problem of its own
		return ""
	}
	return policy.ImpliedPort(address.Scheme)
}

// UpstreamHost finds the upstream that a registry's name means, and returns the
// familiar name that it is configured by. The gate and every command agree on it.
func (c *Config) UpstreamHost(host string) (string, bool) {
	return policy.ConfiguredHost(host, c.impliedPort)
}

func (c *Config) impliedPort(host string) (string, bool) {
	if port, ok := c.exactPort(host); ok {
		return port, true
	}
	if _, taken := policy.ConfiguredHost(host, c.exactPort); taken {
		return "", false // by another spelling, which names the same registry
	}
	for _, u := range c.Upstreams {
		if pattern, err := policy.ParseHostPattern(u.Host); err == nil && pattern.Match(host) {
			return u.impliedPort(), true
		}
	}
	return "", false
}

// exactPort is impliedPort for the hosts that are written out.
func (c *Config) exactPort(host string) (string, bool) {
	for _, u := range c.Upstreams {
		if !u.IsWildcard() && policy.FamiliarHost(u.Host) == host {
			return u.impliedPort(), true
		}
	}
	return "", false
}

// upstreamURL checks a URL, which the problem does not repeat: it may hold a
// password.
func (k *checks) upstreamURL(path, text string) {
	if text == "" {
		return
	}

	u, err := url.Parse(text)
	switch {
	case err != nil,
		u.Host == "",
		u.Scheme != "https" && u.Scheme != "http",
		u.RawQuery != "",
		u.Fragment != "",
		u.User != nil:
		k.add(path, "url must be http:// or https://, a host and perhaps a path, without user, query or fragment")
	}
}

// ExposesCredentials reports whether anyone who reaches the listener addr could
// use the upstreams' credentials, although the configuration does not say that
// this is meant.
func (c *Config) ExposesCredentials(addr string) bool {
	secrets := slices.ContainsFunc(c.Upstreams, func(u Upstream) bool { return u.Auth.isSecret() })
	return secrets && !IsLoopback(addr) && !c.Clients.Takes(Anonymous) && !c.Clients.Identifies()
}

// IsLoopback reports whether an address, host:port, can be reached from this
// machine only.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}

	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
