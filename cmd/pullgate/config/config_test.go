package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// writeConfig writes a configuration into a folder of its own.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pullgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The example shows the defaults: without its values nothing changes.
func TestExampleDefaults(t *testing.T) {
	example, _ := Read(filepath.Join("..", "..", "..", "config.example.yaml"), nil)
	file := writeConfig(t, "upstreams: [{host: docker.io}]\n")
	bare, problems := Read(file, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, row := range []struct {
		name     string
		is, want any
	}{
		{"listen", example.Listen, bare.Listen},
		{"admin", example.Admin, bare.Admin},
		{"mode", example.Mode, bare.Mode},
		{"clients", example.Clients, bare.Clients},
		{"log", example.Log, bare.Log},
		{"drain", example.Drain, bare.Drain},
		{"defaultAction", example.DefaultAction, bare.DefaultAction},
		{"verdicts", example.Verdicts, bare.Verdicts},
		{"manifests", example.Manifests, bare.Manifests},
		{"limits", example.Limits, bare.Limits},
		{"decisions", example.Decisions, bare.Decisions},
		{"state.path", example.State.Path, bare.State.Path},
		{"state.maxBytes", example.State.MaxBytes, bare.State.MaxBytes},
	} {
		if !reflect.DeepEqual(row.is, row.want) {
			t.Errorf("%s: the example says %+v, the default is %+v", row.name, row.is, row.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PULLGATE_MODE", "warn")
	t.Setenv("PULLGATE_LIMITS_VERIFYTIMEOUT", "3s")
	t.Setenv("PULLGATE_MANIFESTS_MAXBYTES", "2MiB")
	c, problems := Read(writeConfig(t, "mode: enforce\nupstreams: [{host: a.example}]\n"), os.Environ())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if c.Mode != "warn" || c.Limits.VerifyTimeout != 3*time.Second || c.Manifests.MaxBytes != 2<<20 {
		t.Errorf("mode %q, timeout %v, bytes %d", c.Mode, c.Limits.VerifyTimeout, c.Manifests.MaxBytes)
	}
	t.Setenv("PULLGATE_MODE", "off")
	if _, problems := Read(writeConfig(t, "upstreams: [{host: a.example}]\n"), os.Environ()); len(problems) == 0 {
		t.Error("a mistyped variable is taken")
	}
	t.Setenv("PULLGATE_MODE", "")
	for _, name := range []string{"PULLGATE_TLS", "PULLGATE_MOED", "PULLGATE_POLICYFILES", "PULLGATE_STATE"} {
		t.Setenv(name, "1")
		if _, problems := Read(
			writeConfig(t, "upstreams: [{host: a.example}]\n"),
			os.Environ(),
		); len(problems) != 1 ||
			!strings.Contains(problems[0].Message, name) {
			t.Errorf("%s is taken or ignored: %v", name, problems)
		}
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKubernetesEnvironment: what Kubernetes sets for a Service whose name begins
// with pullgate is no setting and no mistake.
func TestKubernetesEnvironment(t *testing.T) {
	t.Parallel()
	file := writeConfig(t, "upstreams: [{host: a.example}]\n")
	for _, service := range []string{"PULLGATE", "PULLGATE_ADMIN", "PULLGATE_MIRROR_EU_1"} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			_, problems := Read(file, []string{
				service + "_SERVICE_HOST=10.0.0.1",
				service + "_SERVICE_PORT=5000",
				service + "_SERVICE_PORT_PULLS=5000",
				service + "_PORT=tcp://10.0.0.1:5000",
				service + "_PORT_5000_TCP=tcp://10.0.0.1:5000",
				service + "_PORT_5000_TCP_PROTO=tcp",
				service + "_PORT_5000_TCP_PORT=5000",
				service + "_PORT_5000_TCP_ADDR=10.0.0.1",
				service + "_PORT_53_UDP=udp://[fd00::1]:53",
			})
			if len(problems) > 0 {
				t.Error(problems)
			}
		})
	}

	for _, mistake := range []string{
		"PULLGATE_ADMIN_PORT=5001",
		"PULLGATE_PORT=5000",
		"PULLGATE_SERVICE=x",
		"PULLGATE_PORT_X=5000",
		"PULLGATE_SERVICE_HOSTS=x",
	} {
		t.Run(mistake, func(t *testing.T) {
			t.Parallel()
			if _, problems := Read(file, []string{mistake}); len(problems) != 1 {
				t.Errorf("%v", problems)
			}
		})
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"1":    1,
		"4096": 4096,
		"4KiB": 4096,
		"1MiB": 1 << 20,
		"2GiB": 2 << 30,
		"7B":   7,
		"4Ki":  4096,
		"8kB":  8000,
		"8K":   8000,
		"9MB":  9_000_000,
		"1Ti":  1 << 40,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "-1", "MiB", "1.5MiB", "1 MiB", "1mb", "9999999999TiB", "1KiBKiB", "1i", "1iB", "1BB",
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken as %d", text, s)
		}
	}
	c, problems := Read(writeConfig(t, "upstreams: [{host: a.example}]\nlimits: {manifestBytes: 1048576}\n"), nil)
	if len(problems) > 0 || c.Limits.ManifestBytes != 1<<20 {
		t.Errorf("a bare number of bytes: %v %v", c.Limits.ManifestBytes, problems)
	}
}

// A port is part of a registry's name; the one that its URL implies may be
// written out.
func TestPorts(t *testing.T) {
	t.Parallel()
	t.Run("twice", func(t *testing.T) {
		for name, list := range map[string]string{
			"implied": "[{host: a.example}, {host: 'a.example:443'}]",
			"plain http": "[{host: a.example, url: 'http://b.example'}, {host: 'a.example:80', url: " +
				"'http://b.example'}]",
			"case":          "[{host: 'a.example:5000'}, {host: 'A.example:5000'}]",
			"Hub":           "[{host: docker.io}, {host: 'index.docker.io:443'}]",
			"written first": "[{host: 'a.example:443'}, {host: a.example}]",
		} {
			_, problems := Read(writeConfig(t, "upstreams: "+list+"\n"), nil)
			if len(problems) != 1 || !strings.Contains(problems[0].Message, "listed twice") {
				t.Errorf("%s: %v", name, problems)
			}
		}
	})
	t.Run("no host", func(t *testing.T) {
		for _, host := range []string{"a..b", "-x", "a.example:0", "a.example:65536", "a/b", "http://a.example"} {
			if _, problems := Read(writeConfig(t, "upstreams: [{host: '"+host+"'}]\n"), nil); len(problems) == 0 {
				t.Errorf("%s is taken", host)
			}
		}
	})
	t.Run("meant", func(t *testing.T) {
		c, problems := Read(writeConfig(t, `
upstreams: [{host: a.example}, {host: "a.example:5000"}, {host: b.example, url: "http://mirror.example"}]
defaultUpstream: "b.example:80"
canary: "a.example:443/canary"
`), nil)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for host, want := range map[string]string{
			"a.example:443":  "a.example",
			"a.example:5000": "a.example:5000",
			"b.example:80":   "b.example",
			"a.example:80":   "",
		} {
			if got, ok := c.UpstreamHost(host); ok != (want != "") || ok && got != want {
				t.Errorf("%s is %s, %v; want %s", host, got, ok, want)
			}
		}
		if got := c.PolicyInput().Canary.String(); got != "a.example/canary" {
			t.Errorf("the canary is %s", got)
		}
	})
}
