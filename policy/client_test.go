package policy

import "testing"

func TestClientNetwork(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"10.0.0.7":          "10.0.0.7",
		"::ffff:10.0.0.7":   "10.0.0.7",
		"2001:db8:1:2:3::4": "2001:db8:1:2::/64",
		"2001:db8:1:2::":    "2001:db8:1:2::/64",
		"fe80::1%eth0":      "fe80::/64",
		"":                  "",
		"no address":        "no address",
	} {
		if got := (Client{Addr: addr}).Network(); got != want {
			t.Errorf("%q is of %q, want %q", addr, got, want)
		}
	}
}
