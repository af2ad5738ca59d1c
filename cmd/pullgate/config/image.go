package config

import (
	"net"
	"strings"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/policy"
)

// Image gives image the name that policies see: its registry's as it is configured,
// nexus.example for nexus.example:443. A name through the gate, as a client pulls
// by it, becomes the one that it means: gate.example:5000/ghcr.io/acme/app,
// ghcr.gate.example/acme/app where a hostname selects ghcr.io, or
// 127.0.0.1:5000/acme/app at the gate's own address. Any other name stays.
func (c *Config) Image(image policy.Image) policy.Image {
	if host, ok := c.UpstreamHost(image.Host); ok {
		image.Host = host
		return image
	}

	if host, ok := c.byHostname(image.Host); ok {
		return on(image, host)
	}
	if inner, ok := imagename.Through(image); ok {
		if host, ok := c.UpstreamHost(inner.Host); ok {
			return on(inner, host)
		}
	}
	if host, ok := c.UpstreamHost(c.DefaultUpstream); ok && c.listensAt(image.Host) {
		return on(image, host)
	}
	return image
}

// on is image on another registry, where Docker Hub's short names get their library/.
func on(image policy.Image, host string) policy.Image {
	image.Host = host
	if host == "docker.io" && !strings.Contains(image.Path, "/") {
		image.Path = "library/" + image.Path
	}
	return image
}

// byHostname finds the upstream that a Host header selects.
func (c *Config) byHostname(header string) (host string, ok bool) {
	bare, _ := policy.SplitPort(header)
	for _, u := range c.Upstreams {
		for _, n := range u.Hostnames {
			if strings.EqualFold(n, header) || strings.EqualFold(n, bare) {
				return policy.FamiliarHost(u.Host), true
			}
		}
	}
	return "", false
}

// listensAt reports whether host is surely the gate's own address: the one it
// listens on, or the same port of this machine where the gate listens there.
func (c *Config) listensAt(host string) bool {
	if strings.EqualFold(host, c.Listen) {
		return true
	}

	at, port, err := net.SplitHostPort(c.Listen)
	_, asked := policy.SplitPort(host)
	if err != nil || asked != port || !IsLoopback(host) {
		return false
	}
	ip := net.ParseIP(at)
	return IsLoopback(c.Listen) || at == "" || ip != nil && ip.IsUnspecified()
}
