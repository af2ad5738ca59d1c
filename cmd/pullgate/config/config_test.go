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
	t.Setenv("PULLGATE_SERVICE_HOST", "10.0.0.1") // as Kubernetes sets it for a service of this name
	t.Setenv("PULLGATE_PORT_5000_TCP", "tcp://10.0.0.1:5000")
	if _, problems := Read(writeConfig(t, "upstreams: [{host: a.example}]\n"), os.Environ()); len(problems) > 0 {
		t.Error(problems)
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
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "MiB", "1.5MiB", "1 MiB", "1mb", "9999999999TiB", "1KiBKiB"} {
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
