package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"syscall"
	"time"
)

const (
	dialTimeout     = 10 * time.Second
	headerTimeout   = 30 * time.Second // until an answer's first byte
	maxHeaderBytes  = 64 << 10
	idleConnections = 64 // kept per host: a verdict asks for several things at once
)

// transports makes the way to the registry, and the way to hosts that it names.
// The second one never reaches link-local addresses, where clouds keep their
// metadata, and reaches loopback only if the registry itself is there.
func transports(tlsConfig *tls.Config, base *url.URL) (direct, away *http.Transport) {
	build := func(control func(network, address string, _ syscall.RawConn) error) *http.Transport {
		dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: control}

		return &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        tlsConfig.Clone(),
			TLSHandshakeTimeout:    dialTimeout,
			ResponseHeaderTimeout:  headerTimeout,
			ExpectContinueTimeout:  time.Second,
			MaxIdleConnsPerHost:    idleConnections,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxHeaderBytes,
			DisableCompression:     true, // what was hashed is what is served
			ForceAttemptHTTP2:      true,
		}
	}

	local, proxies := isLoopback(base.Hostname()), proxyPorts()
	guard := func(_, address string, _ syscall.RawConn) error {
		_, port, err := net.SplitHostPort(address)
		return refuseInternal(address, local || err == nil && slices.Contains(proxies, port))
	}

	return build(nil), build(guard)
}

// proxyPorts are the ports of this machine's HTTP proxies: the way to other hosts
// may lead through them.
func proxyPorts() []string {
	var ports []string
	for _, scheme := range []string{"http", "https"} {
		at, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "registry.example"}})
		if err == nil && at != nil && isLoopback(at.Hostname()) {
			ports = append(ports, at.Port())
		}
	}

	return ports
}

var errInternal = errors.New("refusing to follow the registry to an internal address")

// metadata are clouds' metadata services outside link-local space. With an HTTP
// proxy (HTTPS_PROXY) it is the proxy that connects and has to refuse these.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // Amazon
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
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

// refuseInternal returns errInternal for an address that a registry may not lead
// the gate to, and for anything that is no ip:port.
func refuseInternal(address string, loopbackAllowed bool) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return errInternal
	}

	for _, ip := range reached(at.Addr()) {
		if ip.IsLinkLocalUnicast() || slices.Contains(metadata, ip) || ip.IsUnspecified() || ip.IsMulticast() ||
			ip.IsLoopback() && !loopbackAllowed {
			return errInternal
		}
	}

	return nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
