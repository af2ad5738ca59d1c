package intercept

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// Target is a host and a port that a client wants to go to, checked and in lower
// case.
type Target struct {
	Host string // a name; never an address
	Port string
}

// String is host:port.
func (t Target) String() string { return t.Host + ":" + t.Port }

// ErrTarget is why a target is refused before it is looked up: two programs could
// read it differently, and one of them is what leads past the gate.
var ErrTarget = errors.New("write a host name, without a trailing dot, and a port; addresses are not served")

// ParseTarget reads host:port, with port implied where none is written.
func ParseTarget(text, implied string) (Target, error) {
	if !policy.ValidHost(text) {
		return Target{}, ErrTarget
	}
	host, port := policy.SplitPort(strings.ToLower(text))
	if port == "" {
		port = implied
	}
	if isAddress(host) {
		return Target{}, ErrTarget
	}
	return Target{host, port}, nil
}

// isAddress reports an IP address in any spelling that a resolver may take: a name
// whose last label is a number is one (RFC 3696, section 2), 127.1 and 0x7f.1 too.
func isAddress(host string) bool {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return last == "" || last[0] >= '0' && last[0] <= '9'
}

// Tunnel is a host that clients may reach past the corridor: another than an
// upstream.
type Tunnel struct {
	pattern policy.HostPattern
	exact   string // host, where there is no *
	port    string
}

// ParseTunnel reads a host, in which * may stand for a label, and perhaps a port.
// Without one it is 443 for CONNECT and 80 for plain http.
func ParseTunnel(text string) (Tunnel, error) {
	text = strings.ToLower(text)
	bare, port := policy.SplitPort(text)
	if strings.Contains(text, "*") {
		pattern, err := policy.ParseHostPattern(bare)
		return Tunnel{pattern: pattern, port: port}, err
	}

	if !policy.ValidHost(text) || isAddress(bare) {
		return Tunnel{}, errors.New("it is no host name")
	}
	return Tunnel{exact: bare, port: port}, nil
}

// Matches reports whether the tunnel leads to t, for a protocol with the port
// implied.
func (u Tunnel) Matches(t Target, implied string) bool {
	if t.Port != u.port && (u.port != "" || t.Port != implied) {
		return false
	}
	return u.Host(t.Host)
}

// Host reports whether the tunnel leads to host on any port.
func (u Tunnel) Host(host string) bool {
	if u.exact != "" {
		return u.exact == host
	}
	return u.pattern.Match(host)
}

// Overlaps reports whether some host is one of both patterns, where other may hold
// *, too.
func (u Tunnel) Overlaps(other string) bool {
	bare, _ := policy.SplitPort(strings.ToLower(other))
	mine := u.exact
	if mine == "" {
		mine = u.pattern.String()
	}
	a, b := strings.Split(mine, "."), strings.Split(bare, ".")
	return slices.EqualFunc(a, b, func(x, y string) bool { return x == y || x == "*" || y == "*" })
}
