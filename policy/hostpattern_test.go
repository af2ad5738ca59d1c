package policy

import (
	"strings"
	"testing"
)

func TestHostPattern(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern       string
		match, differ []string
	}{
		{
			"*.pkg.dev",
			[]string{"us-docker.pkg.dev", "US-Docker.PKG.dev", "a.pkg.dev", "xn--80ak6aa92e.pkg.dev"},
			[]string{
				"pkg.dev",
				".pkg.dev",
				"a.b.pkg.dev",
				"evil-pkg.dev",
				"a.pkg.dev.evil.example",
				"a.pkg.dev.",
				"a.pkg.dev:443",
				"a.pkg.dev:5000",
				"a.pkg.dev:",
				"*.pkg.dev",
				"-a.pkg.dev",
				"a-.pkg.dev",
				"ä.pkg.dev",
				"а.pkg.dev",      // a Cyrillic letter
				"a。pkg.dev",      // dots that browsers take for one
				"a.p\u212ag.dev", // a kelvin sign, whose lower case is k
				"user@a.pkg.dev",
				"a.pkg.dev/x",
				"a%2e.pkg.dev",
				"a\x00.pkg.dev",
				"a b.pkg.dev",
				strings.Repeat("a", 64) + ".pkg.dev",
				"[::1]",
				"",
			},
		},
		{
			"*.dkr.ecr.*.amazonaws.com",
			[]string{"123456789012.dkr.ecr.eu-west-1.amazonaws.com"},
			[]string{
				"123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
				"123456789012.dkr.ecr.amazonaws.com",
				"123456789012.dkr.ecr.a.b.amazonaws.com",
				"x.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
				"dkr.ecr.eu-west-1.amazonaws.com",
			},
		},
		{"*.nexus.example:5001", []string{"a.nexus.example:5001"}, []string{"a.nexus.example", "a.nexus.example:5002"}},
	}
	for _, tt := range tests {
		p, err := ParseHostPattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range tt.match {
			if !p.Match(host) {
				t.Errorf("%s does not match %s", p, host)
			}
		}
		for _, host := range tt.differ {
			if p.Match(host) {
				t.Errorf("%s matches %q", p, host)
			}
		}
	}
	if (HostPattern{}).Match("a.example") || (HostPattern{}).Match("") {
		t.Error("no pattern matches something")
	}
}

func TestHostPatternSyntax(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"pkg.dev",
		"*",
		"*.dev",
		"*.*",
		"a.*.dev",
		"**.pkg.dev",
		"a*.pkg.dev",
		"*a.pkg.dev",
		"*.pkg.dev:*",
		"*.pkg.dev:0",
		"*..pkg.dev",
		"*.pkg.dev.",
		"*.pkg.dev/x",
		"[*::1]",
		"",
	} {
		if p, err := ParseHostPattern(text); err == nil {
			t.Errorf("%q is a pattern: %s", text, p)
		}
	}
}
