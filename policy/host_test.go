package policy

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestValidHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"docker.io",
		"localhost",
		"nexus.example:5001",
		"REG.example",
		"10.0.0.1:1",
		"a_b.example",
		"[::1]",
		"[fe80::1]:65535",
		"xn--bcher-kva.example",
		strings.Repeat("a", 63) + ".example",
	} {
		if !ValidHost(host) {
			t.Errorf("%q names a host", host)
		}
	}
	for _, host := range []string{
		"",
		".",
		"a..b",
		".a",
		"a.",
		"-x",
		"x-",
		"a.-b",
		"a/b",
		"a b",
		"a\x00",
		"a\n",
		"a%41",
		"ä.example",
		"user@a",
		"a?b",
		"a:",
		":1",
		"a:0",
		"a:65536",
		"a:-1",
		"a:+1",
		"a:01",
		"a:1:2",
		"a:x",
		"::1",
		"[::1",
		"::1]",
		"[a.example]",
		"[::1]x",
		strings.Repeat("a", 64) + ".example",
		strings.Repeat("a.", 127) + "example",
	} {
		if ValidHost(host) {
			t.Errorf("%q names no host", host)
		}
	}
}

// configuredPorts are registries by the port that their URL's scheme implies.
func configuredPorts(host string) (string, bool) {
	port, ok := map[string]string{
		"reg.example":         "443",
		"plain.example":       "80",
		"nexus.example:5001":  "443",
		"written.example:443": "443",
		"docker.io":           "443",
		"[::1]:5000":          "80",
	}[host]
	return port, ok
}

func TestConfiguredHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"reg.example":              "reg.example",
		"REG.example:443":          "reg.example",
		"plain.example:80":         "plain.example",
		"plain.example:443":        "plain.example",
		"nexus.example:5001":       "nexus.example:5001",
		"written.example":          "written.example:443",
		"written.example:443":      "written.example:443",
		"index.docker.io:443":      "docker.io",
		"registry-1.docker.io:443": "docker.io",
		"[::1]:5000":               "[::1]:5000",
		"reg.example:80":           "",
		"reg.example:5001":         "",
		"nexus.example":            "",
		"nexus.example:443":        "",
		"nexus.example:5002":       "",
		"written.example:80":       "",
		"docker.io:5000":           "",
		"[::1]":                    "",
		"":                         "",
	} {
		got, ok := ConfiguredHost(host, configuredPorts)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q is %q, %v; want %q", host, got, ok, want)
		}
	}
}

// A policy names a registry with or without the port that its name implies.
func TestPortsInPolicies(t *testing.T) {
	t.Parallel()
	for image, want := range map[string]string{
		"reg.example:443/**":            "reg.example/app",
		"reg.example/**":                "reg.example/app",
		"plain.example:80/**":           "plain.example/app",
		"written.example/**":            "written.example:443/app",
		"nexus.example:5001/**":         "nexus.example:5001/app",
		"*.example:443/app":             "reg.example/app",
		"index.docker.io:443/library/*": "docker.io/library/app",
	} {
		t.Run(image, func(t *testing.T) {
			var doc yaml.Node
			err := yaml.Unmarshal([]byte(`[{name: p, images: ["`+image+`"], static: deny}]`), &doc)
			if err != nil {
				t.Fatal(err)
			}
			set, problems := Load(Input{Inline: doc.Content[0], DefaultAction: "allow", ImpliedPort: configuredPorts})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			repo, err := ParseRepository(want)
			if err != nil {
				t.Fatal(err)
			}
			if p := set.For(repo, "", Client{}); p.Name != "p" {
				t.Errorf("%s does not match %s: %q decides", image, want, p.Name)
			}
		})
	}
}
