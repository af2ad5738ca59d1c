package server

import (
	"net"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
)

func TestAdminHost(t *testing.T) {
	t.Parallel()
	ipv4 := &net.TCPAddr{IP: net.ParseIP("10.0.0.7"), Port: 5001}
	ipv6 := &net.TCPAddr{IP: net.ParseIP("fe80::7"), Port: 5001, Zone: "eth0"}
	anywhere := config.Admin{Listen: ":5001"}
	named := config.Admin{Listen: "gate.internal:5001", Hostnames: []string{"Gate.example", "10.9.9.9", "fd00::1"}}

	for name, c := range map[string]struct {
		host  string
		local net.Addr
		admin config.Admin
		want  bool
	}{
		"localhost":             {"localhost:5001", ipv4, anywhere, true},
		"localhost, upper case": {"LOCALHOST.", ipv4, anywhere, true},
		"loopback":              {"127.0.0.1:5001", ipv4, anywhere, true},
		"other loopback":        {"127.1.2.3", ipv4, anywhere, true},
		"IPv6 loopback":         {"[::1]:5001", ipv4, anywhere, true},
		"bare IPv6 loopback":    {"[::1]", ipv4, anywhere, true},
		"its address":           {"10.0.0.7:5001", ipv4, anywhere, true},
		"another port":          {"10.0.0.7:80", ipv4, anywhere, true},
		"its IPv6 address":      {"[fe80::7]:5001", ipv6, anywhere, true},
		"mapped address":        {"[::ffff:10.0.0.7]:5001", ipv4, anywhere, true},
		"where it listens":      {"gate.internal:5001", ipv4, named, true},
		"listed":                {"gate.EXAMPLE:5001", ipv4, named, true},
		"listed address":        {"10.9.9.9", ipv4, named, true},
		"listed IPv6 address":   {"[fd00::1]:5001", ipv4, named, true},

		"another name":            {"rebound.attacker.example:5001", ipv4, named, false},
		"another address":         {"10.0.0.8:5001", ipv4, anywhere, false},
		"below a listed name":     {"x.gate.example", ipv4, named, false},
		"below localhost":         {"x.localhost", ipv4, named, false},
		"looks like an address":   {"127.0.0.1.attacker.example", ipv4, named, false},
		"loopback in decimal":     {"2130706433", ipv4, named, false},
		"nothing":                 {"", ipv4, anywhere, false},
		"nothing but a port":      {":5001", ipv4, anywhere, false},
		"all addresses":           {"0.0.0.0:5001", ipv4, anywhere, false},
		"no connection":           {"10.0.0.7", nil, anywhere, false},
		"the user before the at":  {"localhost@attacker.example", ipv4, named, false},
		"listed name as its user": {"gate.example@attacker.example", ipv4, named, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isAdminHost(c.host, c.local, c.admin); got != c.want {
				t.Errorf("%q: %v", c.host, got)
			}
		})
	}
}
