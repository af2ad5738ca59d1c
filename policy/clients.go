package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Clients is a pattern over clients: a glob over the name with its kind, or a
// network. The zero value matches no client.
type Clients struct {
	name    Glob
	network netip.Prefix
}

// ParseNetwork reads a network (10.1.0.0/16) or a single address.
func ParseNetwork(text string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%.100q is no network: write it as 10.1.0.0/16", text)
		}
		network = netip.PrefixFrom(addr, addr.BitLen())
	}

	switch masked := network.Masked(); {
	case network.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%s is an IPv4 address in IPv6: write it as IPv4", network)
	case masked != network:
		return netip.Prefix{}, fmt.Errorf("%s names a machine in a network: write %s", network, masked)
	}
	return network, nil
}

// isNetwork reports whether text was meant as a network.
func isNetwork(text string) bool {
	_, err := netip.ParsePrefix(text)
	if err != nil {
		_, err = netip.ParseAddr(text)
	}
	return err == nil
}

// ParseClients reads a pattern: a network (10.1.0.0/16), an address, or a glob
// that begins with its kind, as in user:ci-*. In a glob, * matches any run of
// characters without "/", and ** any run.
func ParseClients(text string) (Clients, error) {
	if isNetwork(text) {
		network, err := ParseNetwork(text)
		return Clients{network: network}, err
	}

	text, err := clientGlob(text)
	if err != nil {
		return Clients{}, err
	}
	literal, _, _ := strings.Cut(text, "*")
	return Clients{name: Glob{
		text:    text,
		literal: literal,
		tokens:  compileGlob(text),
	}}, nil
}

var errStars = errors.New("*** is no wildcard: write * or **")

// clientGlob checks the text of a glob over names and returns it as names are
// spelled: DNS names in lower case.
func clientGlob(text string) (string, error) {
	kind, rest, _ := strings.Cut(text, ":")
	if kind == DNSKind {
		text = strings.ToLower(text)
	}

	if strings.Contains(text, "***") {
		return "", fmt.Errorf("%.100q: %w", text, errStars)
	}
	if strings.Contains(kind, "*") {
		return "", fmt.Errorf("%.100q: a pattern names its kind of client (%s)", text, kindsOfNames)
	}
	// What a wildcard stands for is taken for a letter: user:* has a name, user: none.
	if err := CheckClientName(strings.ReplaceAll(text, "*", "x")); err != nil {
		if rest != "" && kind != "" && !strings.HasPrefix(rest, "//") {
			return "", fmt.Errorf("%.100q: %q is no kind of client: %s", text, kind, kindsOfNames)
		}
		return "", fmt.Errorf("%.100q is no pattern of clients: write a network, or a name with its kind (%s)",
			text, kindsOfNames)
	}
	return text, nil
}

func (c Clients) isZero() bool { return !c.network.IsValid() && c.name.text == "" }

// String is the pattern as it is written.
func (c Clients) String() string {
	if c.network.IsValid() {
		return c.network.String()
	}
	return c.name.String()
}

// Kind is the kind of the names that c matches, a URI's scheme among them; empty
// for a network.
func (c Clients) Kind() string {
	kind, _, _ := strings.Cut(c.name.text, ":")
	return kind
}

// Match reports whether the client is one of c's.
func (c Clients) Match(client Client) bool {
	if !c.network.IsValid() {
		return c.name.Match(client.Name)
	}

	addr, err := netip.ParseAddr(client.Addr)
	return err == nil && c.network.Contains(addr.Unmap().WithZone(""))
}

// Covers reports whether c matches every client that other matches. As for
// globs, false can also mean "hard to tell".
func (c Clients) Covers(other Clients) bool {
	if c.network.IsValid() || other.network.IsValid() {
		return c.network.IsValid() && other.network.IsValid() &&
			c.network.Bits() <= other.network.Bits() && c.network.Contains(other.network.Addr())
	}
	return c.name.Covers(other.name)
}

// matchesClient reports whether p is for the client; a policy without clients is
// for everybody.
func (p *Policy) matchesClient(client Client) bool {
	return len(p.Clients) == 0 ||
		slices.ContainsFunc(p.Clients, func(c Clients) bool { return c.Match(client) })
}

// KindOf is the same for all clients that no policy tells apart. It is empty where
// every policy is for everybody.
func (s *Set) KindOf(client Client) string {
	var kind []byte
	for _, p := range s.Policies() {
		if len(p.Clients) == 0 {
			continue
		}
		mark := byte('-')
		if p.matchesClient(client) {
			mark = '+'
		}
		kind = append(kind, mark)
	}
	return string(kind)
}

// clients reads a policy's list of patterns.
func (v value) clients() []Clients {
	var list []Clients
	for item, text := range v.texts() {
		c, err := ParseClients(text)
		if err != nil {
			item.problem("%s: %v", v.Path, err)
			continue
		}
		list = append(list, c)
	}
	return list
}
