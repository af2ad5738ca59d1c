package upstream

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// reach is how far inside an address lies. A registry leads the gate no further
// inside than it lies itself, or else its redirects, token realms and name would
// ask in the gate's place what only the gate's network can reach.
type reach int32

const (
	outside reach = iota
	inside        // a network of its own: private, shared by a carrier, or reserved
	machine       // this machine
	nowhere       // what no registry leads to: clouds' metadata, link-local, multicast
)

func (r reach) String() string {
	return [...]string{"a public", "a private", "a loopback", "an internal"}[r]
}

var errInternal = errors.New("refusing to connect to an internal address")

// metadata are clouds' metadata services outside link-local space. With an HTTP
// proxy (HTTPS_PROXY) it is the proxy that connects and has to refuse these.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
}

// ownNetworks are networks that no route from outside leads to, besides those of
// RFC 1918 and RFC 4193: IANA's registries of special-purpose addresses.
var ownNetworks = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"),   // carriers (RFC 6598), and private overlays
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and used within clouds
	netip.MustParsePrefix("fec0::/10"),       // site-local, which is no more
	netip.MustParsePrefix("64:ff9b:1::/48"),  // a translator of one network's own
	netip.MustParsePrefix("2001::/32"),       // Teredo, which wraps an IPv4 address
	netip.MustParsePrefix("2001:2::/48"),     // benchmarks
	netip.MustParsePrefix("5f00::/16"),       // segment routing
	netip.MustParsePrefix("192.88.99.0/24"),  // relays of 6to4
	netip.MustParsePrefix("::ffff:0:0:0/96"), // IPv4-translated (RFC 2765)
}

// deadNetworks are addresses that no host has: this network, and broadcast.
var deadNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("255.255.255.255/32"),
}

// translated are prefixes whose addresses stand for an IPv4 address, by the
// position of its first byte: NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), and
// addresses that hold one for compatibility (RFC 4291).
var translated = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("::/96"), 12},
}

// reached are the addresses that a connection to ip reaches, or may reach through
// a translator on its way.
func reached(ip netip.Addr) []netip.Addr {
	ip = ip.Unmap().WithZone("")
	list := []netip.Addr{ip}
	for _, t := range translated {
		if t.prefix.Contains(ip) && ip != netip.IPv6Loopback() {
			b := ip.As16()
			list = append(list, netip.AddrFrom4([4]byte(b[t.at:t.at+4])))
		}
	}
	return list
}

// reachOf is how far inside a connection to ip leads, at most.
func reachOf(ip netip.Addr) reach {
	furthest := outside
	for _, ip := range reached(ip) {
		furthest = max(furthest, plainReach(ip))
	}
	return furthest
}

func plainReach(ip netip.Addr) reach {
	within := func(networks []netip.Prefix) bool {
		return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	switch {
	case ip.IsLinkLocalUnicast(),
		ip.IsMulticast(),
		ip.IsUnspecified(),
		slices.Contains(metadata, ip),
		within(deadNetworks):
		return nowhere
	case ip.IsLoopback():
		return machine
	case ip.IsPrivate(), within(ownNetworks):
		return inside
	}
	return outside
}

// refuseBeyond returns an error that wraps errInternal for an address further
// inside than most, and for anything that is no ip:port.
func refuseBeyond(address string, most reach) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return errInternal
	}

	if r := reachOf(at.Addr()); r > most || r == nowhere {
		return fmt.Errorf("%w: %s is %s one", errInternal, at.Addr(), r)
	}
	return nil
}

// refuseLiteral is refuseBeyond for a URL's host, where that is an address, or
// what some resolvers take for one: no name ends in a number. Other names pass.
func refuseLiteral(host string, most reach) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		return refuseBeyond(netip.AddrPortFrom(ip, 0).String(), most)
	}
	if isLoopback(host) && most < machine {
		return errInternal
	}

	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	if strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == "" {
		return errInternal
	}
	return nil
}

// nameReach is how far inside a host lies as far as its name says.
func nameReach(host string) reach {
	if host == "localhost" {
		return machine
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return reachOf(ip)
	}
	return outside
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
