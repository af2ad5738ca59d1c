package main

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/proxy/intercept"
)

// caRun runs `pullgate ca` in dir for the upstreams.
func caRun(t *testing.T, dir, upstreams string, flags ...string) (string, error) {
	t.Helper()
	config := filepath.Join(dir, "pullgate.yaml")
	if err := os.WriteFile(config, []byte("upstreams: ["+upstreams+"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	args := []string{
		"ca", "--config", config, "--cert", filepath.Join(dir, "ca.crt"), "--key", filepath.Join(dir, "ca.key"),
	}
	err := run(t.Context(), append(args, flags...), &out, &errs)
	return out.String(), err
}

func caBundle(t *testing.T, dir string) []*x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := intercept.ParseCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// TestCA: an authority is made for the upstreams alone, renewed with its key, and
// rotated beside itself; nothing that is there is written over.
func TestCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const two = "{host: docker.io}, {host: \"nexus.example:5001\"}, {host: \"*.pkg.dev\"}"
	out, err := caRun(t, dir, two)
	if err != nil || !strings.Contains(out, "index.docker.io, nexus.example, pkg.dev, registry-1.docker.io") {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info.Mode(), err)
	}
	first := caBundle(t, dir)[0]
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}

	if _, err := caRun(t, dir, two); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("made over another: %v", err)
	}
	if out, err := caRun(
		t,
		dir,
		"{host: ghcr.io}",
		"--renew",
	); err != nil ||
		!strings.Contains(out, "good for ghcr.io until") {
		t.Errorf("renew: %v\n%s", err, out)
	}
	renewed := caBundle(t, dir)
	if len(renewed) != 1 || !bytes.Equal(renewed[0].RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Errorf("renewed: %d certificates", len(renewed))
	}

	if _, err := caRun(t, dir, "{host: ghcr.io}", "--rotate"); err != nil {
		t.Errorf("rotate: %v", err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "ca.key")); err != nil || !bytes.Equal(again, key) {
		t.Errorf("rotating touched the key that signs: %v", err)
	}
	if rotated := caBundle(t, dir); len(rotated) != 2 {
		t.Errorf("rotated: %d certificates", len(rotated))
	}
	if _, err := caRun(
		t,
		dir,
		"{host: ghcr.io}",
		"--rotate",
	); err == nil ||
		!strings.Contains(err.Error(), "move it to") {
		t.Errorf("rotated twice: %v", err)
	}
}

// TestBadCA: what no authority is made for, and with which words.
func TestBadCA(t *testing.T) {
	t.Parallel()
	for want, row := range map[string]struct {
		upstreams string
		flags     []string
	}{
		"good for all of amazonaws.com": {"{host: \"*.dkr.ecr.*.amazonaws.com\"}", nil},
		"it is an address":              {"{host: \"192.0.2.1:5000\"}", nil},
		"no upstream":                   {"", nil},
		"too short":                     {"{host: ghcr.io}", []string{"--valid", "1h"}},
		"choose one":                    {"{host: ghcr.io}", []string{"--renew", "--rotate"}},
		"no such file":                  {"{host: ghcr.io}", []string{"--renew"}},
	} {
		dir := t.TempDir()
		if _, err := caRun(t, dir, row.upstreams, row.flags...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s %v: %v; want %q", row.upstreams, row.flags, err, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "ca.key")); err == nil {
			t.Errorf("%s: a key is left", row.upstreams)
		}
	}
}

// TestInterceptionFiles: what is printed for runtimes whose proxy is the gate.
func TestInterceptionFiles(t *testing.T) {
	t.Parallel()
	asked := []string{"--intercept", "--gate", "http://gate.example:3128", "--ca", "/etc/pullgate/ca.crt"}
	login := []string{"--login", loginFile(t, "ci:p%s@/")}
	const secure = "http://ci:p%25s%40%2F@gate.example:3128"
	for runtime, has := range map[string][]string{
		"containerd": {
			"containerd.service.d",
			`"HTTPS_PROXY=http://gate.example:3128"`,
			"update-ca-trust",
			"NO_PROXY=localhost",
		},
		"docker":   {"docker.service.d", "systemctl restart docker"},
		"cri-o":    {"crio.service.d"},
		"buildkit": {"buildkit.service.d"},
		"podman":   {"containers.conf.d", `"HTTPS_PROXY=http://gate.example:3128"`, "http_proxy = false"},
		"k3s":      {"/etc/default/k3s", "CONTAINERD_HTTPS_PROXY=http://gate.example:3128", "not measured"},
		"rke2":     {"/etc/default/rke2-server", "/etc/default/rke2-agent"},
		"talos":    {`https_proxy: "http://gate.example:3128"`, "TrustedRootsConfig"},
		"nftables": {"registries4", "reject with tcp reset", "closes nothing yet"},
	} {
		out, err := nodeConfig(t, append([]string{runtime}, asked...)...)
		if err != nil {
			t.Errorf("%s: %v", runtime, err)
		}
		for _, want := range has {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not printed:\n%s", runtime, want, out)
			}
		}
	}
	if out, err := nodeConfig(t, append(append([]string{"podman"}, asked...), login...)...); err == nil ||
		!strings.Contains(err.Error(), "others could have read") {
		t.Errorf("a password over plain http: %v\n%s", err, out)
	}
	local := append([]string{"podman", "--intercept", "--gate", "http://127.0.0.1:3128", "--ca", "/ca.crt"}, login...)
	if out, err := nodeConfig(
		t,
		local...); err != nil ||
		!strings.Contains(out, strings.Replace(secure, "gate.example", "127.0.0.1", 1)) {
		t.Errorf("a name for the proxy: %v\n%s", err, out)
	}

	for want, args := range map[string][]string{
		"is not known with --intercept": append([]string{"rkt"}, asked...),
		"intercept.listen":              {"podman", "--intercept", "--gate", "https://gate.example", "--ca", "/ca.crt"},
		"wants --ca":                    {"podman", "--intercept", "--gate", "http://gate.example"},
		"neither an address":            append([]string{"nftables", "--address", "x"}, asked...),
		"--tls-port must":               append([]string{"nftables", "--tls-port", "70000"}, asked...),
		"--gate-user must":              append([]string{"nftables", "--gate-user", "a\"b"}, asked...),
	} {
		if _, err := nodeConfig(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v; want %q", args, err, want)
		}
	}
}
