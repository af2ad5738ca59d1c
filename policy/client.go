package policy

import "net/netip"

// Network names the clients that share what one client may use up: an IPv4
// address or an IPv6 /64, of which one machine has every address. It is Addr
// itself where that is no address.
func (c Client) Network() string {
	ip, err := netip.ParseAddr(c.Addr)
	if err != nil {
		return c.Addr
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}

	prefix, err := ip.Prefix(64)
	if err != nil {
		return c.Addr
	}
	return prefix.String()
}
