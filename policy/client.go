package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// Client is the one who asks, as far as policies may see it.
type Client struct {
	Addr string // remote IP address without port
	Name string // with its kind before it, as in user:ci; empty: it has shown none
}

// String is the client's name and address, whichever it has.
func (c Client) String() string {
	if c.Name == "" || c.Addr == "" {
		return c.Name + c.Addr
	}
	return c.Name + " (" + c.Addr + ")"
}

// The kinds of names. A certificate's URI is a name as it is: its scheme is its
// kind.
const (
	UserKind    = "user" // of a password
	SubjectKind = "sub"  // of a token
	DNSKind     = "dns"  // of a certificate without a URI
	CommonKind  = "cn"   // of a certificate with neither URI nor DNS name
)

// MaxClientName bounds a client's name, in bytes: it stands in log lines and
// records.
const MaxClientName = 512

// ParseClient reads a client as people write it: an address, or a name with its
// kind.
func ParseClient(text string) (Client, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return Client{Addr: addr.Unmap().String()}, nil
	}
	if err := CheckClientName(text); err != nil {
		return Client{}, err
	}
	return Client{Name: text}, nil
}

// CheckClientName refuses what is no client's name: one without a kind, a URI
// whose scheme is another kind's, and what cannot stand in a line.
func CheckClientName(name string) error {
	if len(name) > MaxClientName || !printable(name) {
		return fmt.Errorf("a client's name is at most %d printable characters", MaxClientName)
	}

	kind, rest, ok := strings.Cut(name, ":")
	switch kind {
	case UserKind, SubjectKind, DNSKind, CommonKind:
		ok = ok && rest != "" && !strings.HasPrefix(rest, "//")
	default:
		ok = ok && IsNameURI(name)
	}
	if !ok {
		return fmt.Errorf("%.100q is no client: write its kind before the name (%s), or an address", name, kindsOfNames)
	}
	return nil
}

const kindsOfNames = "user:NAME, sub:SUBJECT, dns:NAME, cn:NAME, or a URI such as spiffe://acme.example/node/1"

// IsNameURI reports whether a URI can name a client: SCHEME://… or urn:…, and no
// scheme that is another kind of name. A certificate for user://admin would pass
// for that user where a policy says user:**.
func IsNameURI(uri string) bool {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || scheme == "" || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return false
	}

	switch scheme {
	case UserKind, SubjectKind, DNSKind, CommonKind:
		return false
	case "urn":
		return rest != ""
	}
	authority, ok := strings.CutPrefix(rest, "//")
	return ok && authority != ""
}

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
