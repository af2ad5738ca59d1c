package clients

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Proxies are those whose word about a client's address counts. The zero value
// trusts none.
type Proxies struct {
	Networks []netip.Prefix

	// Protocol says that they tell it by the PROXY protocol, before the first
	// byte of a connection; no header counts then.
	Protocol bool
}

// Trusts reports whether ip is the address of such a proxy.
func (p Proxies) Trusts(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(p.Networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}

// address is where r comes from, and whether a trusted proxy stands between. A
// header counts only from such a proxy, and of it only what a trusted proxy has
// written: the rightmost address that is no proxy's. All before that may be the
// client's invention.
func (p Proxies) address(r *http.Request) (addr string, proxied bool, err error) {
	peer := withoutPort(r.RemoteAddr)
	if len(p.Networks) == 0 || p.Protocol {
		return peer, p.Protocol, nil
	}
	ip, err := netip.ParseAddr(peer)
	if err != nil || !p.Trusts(ip) {
		return peer, false, nil
	}

	last := peer
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for line != "" {
			var said string
			line, said = cutLastComma(line)
			hop, ok := parseHop(said)
			if !ok {
				return peer, true, &ForwardedError{Proxy: last}
			}
			last = hop.String()
			if !p.Trusts(hop) {
				return last, true, nil
			}
		}
	}
	return last, true, nil // a proxy itself asks
}

// cutLastComma takes the last item off a list.
func cutLastComma(list string) (before, last string) {
	i := strings.LastIndexByte(list, ',')
	if i < 0 {
		return "", list
	}
	return list[:i], list[i+1:]
}

// parseHop reads an address, with or without a port.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		return ip.Unmap().WithZone(""), true
	}
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}

func withoutPort(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

func isLoopback(addr string) bool {
	ip, err := netip.ParseAddr(addr)
	return err == nil && ip.Unmap().IsLoopback()
}
