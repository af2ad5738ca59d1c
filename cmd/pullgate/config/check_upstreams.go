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

	hosts, names := map[string]bool{}, map[string]bool{}
	for i, u := range k.Upstreams {
		at := "upstreams." + strconv.Itoa(i)
		host := policy.FamiliarHost(u.Host)
		if host == "" || strings.ContainsAny(host, "/@ ") {
			k.add(at, "an upstream needs host: the registry's name as images carry it, e.g. ghcr.io")
			continue
		}

		if hosts[host] {
			k.add(at+".host", "upstream %s is listed twice", host)
		}
		hosts[host] = true

		for _, n := range u.Hostnames {
			if names[strings.ToLower(n)] {
				k.add(at+".hostnames", "hostname %s selects two upstreams", n)
			}
			names[strings.ToLower(n)] = true
		}

		k.upstreamURL(at+".url", u.URL)
		k.upstreamAuth(at+".auth", u.Auth)
	}

	if k.DefaultUpstream != "" && !hosts[policy.FamiliarHost(k.DefaultUpstream)] {
		k.add("defaultUpstream", "defaultUpstream %s is not among the upstreams", k.DefaultUpstream)
	}
	if k.ExposesCredentials(k.Listen) {
		k.add(
			"listen",
			"upstream credentials behind a listener that is not loopback let anyone who reaches it read every private "+
				"image; write `clients: {auth: anonymous}` if that is meant",
		)
	}
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

func (k *checks) upstreamAuth(path string, a Auth) {
	switch a.Type {
	case "", "anonymous":
		if a.Username+a.PasswordFile+a.File != "" || len(a.Realms) > 0 {
			k.add(path, "auth has credentials and no type: write type: basic or type: dockerConfig")
		}
	case "basic":
		if a.Username == "" || a.PasswordFile == "" || a.File != "" {
			k.add(path, "auth type basic takes username and passwordFile")
		}
	case "dockerConfig":
		if a.File == "" || a.Username+a.PasswordFile != "" {
			k.add(path, "auth type dockerConfig takes file")
		}
	case "token", "ecr", "gcr", "acr", "passthrough":
		k.add(path, "auth type %s is not supported yet", a.Type)
	default:
		k.add(path, "auth type %q; it must be anonymous, basic or dockerConfig", a.Type)
	}
}

// ExposesCredentials reports whether anyone who reaches the listener addr could
// use the upstreams' credentials, although the configuration does not say that
// this is meant.
func (c *Config) ExposesCredentials(addr string) bool {
	secrets := slices.ContainsFunc(c.Upstreams, func(u Upstream) bool { return u.Auth.isSecret() })
	return secrets && !IsLoopback(addr) && c.Clients.Auth != "anonymous"
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
