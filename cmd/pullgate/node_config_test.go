package main

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/pullgate/pullgate/cmd/pullgate/node"
)

var update = flag.Bool("update", false, "write deploy/nodes anew")

func nodeConfig(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errs bytes.Buffer
	err := run(t.Context(), append([]string{"node-config"}, args...), &out, &errs)
	return out.String(), err
}

// TestDeployedNodeFiles: deploy/nodes shows what the command prints.
func TestDeployedNodeFiles(t *testing.T) {
	t.Parallel()
	shown := map[string][]string{
		"containerd-1.6": {"containerd", "--version", "1.6"},
		"docker-29":      {"docker", "--version", "29"},
	}
	for _, name := range node.SetupNames() {
		shown[name] = []string{name}
	}
	for name, args := range shown {
		flags := []string{"--gate", "http://127.0.0.1:5000", "--upstream", "docker.io", "--upstream", "ghcr.io"}
		out, err := nodeConfig(t, append(args, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("..", "..", "deploy", "nodes", name+".txt")
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != out {
			t.Errorf("%s is not what `node-config %s` prints: %v; run the test with -update",
				file, strings.Join(args, " "), err)
		}
	}
}

// TestReadmeNodeFiles: the two files in the README are what the command prints, but
// for the comments.
func TestReadmeNodeFiles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```toml\n")[1:]
	for i, runtime := range []string{"containerd", "podman"} {
		if i >= len(blocks) {
			t.Fatalf("the README has %d TOML blocks", len(blocks))
		}
		block, _, _ := strings.Cut(blocks[i], "```")
		out, err := nodeConfig(t, runtime, "--gate", "http://127.0.0.1:5000", "--upstream", "ghcr.io")
		if err != nil {
			t.Fatal(err)
		}
		path, file, _ := strings.Cut(strings.TrimPrefix(out, "==> "), "\n")
		file, _, _ = strings.Cut(file, "\n\nnote: ")
		var shown, printed map[string]any
		err = errors.Join(toml.Unmarshal([]byte(block), &shown), toml.Unmarshal([]byte(file), &printed))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(block, "# "+path+"\n") || len(printed) == 0 || !reflect.DeepEqual(shown, printed) {
			t.Errorf("the README's %s is not what `node-config %s` prints: %v, not %v", path, runtime, shown, printed)
		}
	}
}

// TestNodeConfig: what is printed for each runtime and flag, and what is not.
func TestNodeConfig(t *testing.T) {
	t.Parallel()
	const gate, secure = "http://127.0.0.1:5000", "https://gate.example:5000"
	for _, row := range []struct {
		args       []string
		has, hasNo []string
	}{
		{
			[]string{"containerd", "--gate", gate, "--upstream", "ghcr.io"},
			[]string{
				"/etc/containerd/certs.d/ghcr.io/hosts.toml",
				"server = \"" + gate + "\"",
				"[host.\"" + gate + "\"]",
				"version = 3",
				"io.containerd.cri.v1.images",
			},
			[]string{"docker.io", "grpc.v1.cri"},
		},
		{
			[]string{"containerd", "--gate", gate, "--version", "1.6.20"},
			[]string{"certs.d/docker.io/hosts.toml", "version = 2", "io.containerd.grpc.v1.cri"},
			nil,
		},
		{[]string{"containerd", "--gate", gate, "--version", "v1.7"}, []string{"io.containerd.grpc.v1.cri"}, nil},
		{[]string{"containerd", "--gate", gate, "--version", "2.1"}, []string{"io.containerd.cri.v1.images"}, nil},
		{
			[]string{"containerd", "--gate", secure, "--ca", "/etc/pullgate/ca.pem"},
			[]string{"ca = \"/etc/pullgate/ca.pem\""},
			nil,
		},
		{
			[]string{"containerd", "--gate", gate, "--upstream", "index.docker.io"},
			[]string{"certs.d/docker.io/"},
			[]string{"index."},
		},
		{
			[]string{"podman", "--gate", gate},
			[]string{"location = \"127.0.0.1:5000/docker.io\"", "insecure = true"},
			[]string{"registry.mirror]]\n"},
		},
		{
			[]string{"podman", "--gate", secure, "--ca", "/ca.pem"},
			[]string{"location = \"gate.example:5000/docker.io\"", "certs.d/gate.example:5000/ca.crt"},
			[]string{"insecure"},
		},
		{[]string{"cri-o", "--gate", gate}, []string{"location", "not measured"}, nil},
		{
			[]string{"docker", "--gate", gate},
			[]string{"do NOT hold", "127.0.0.1:5000/docker.io/team/app"},
			[]string{"daemon.json"},
		},
		{[]string{"docker", "--gate", "http://gate.example:5000"}, []string{"daemon.json", "insecure-registries"}, nil},
		{
			[]string{"docker", "--gate", secure, "--ca", "/ca.pem"},
			[]string{"mkdir -p /etc/docker/certs.d/gate.example:5000 && ln -s /ca.pem " +
				"/etc/docker/certs.d/gate.example:5000/ca.crt"},
			[]string{"insecure-registries"},
		},
		{
			[]string{"docker", "--gate", gate, "--version", "29.1"},
			[]string{"/etc/docker/certs.d/docker.io/hosts.toml", "server = \"" + gate + "\"", "containerd image store"},
			[]string{"docker pull"},
		},
		{[]string{"docker", "--gate", gate, "--version", "28"}, []string{"do NOT hold"}, []string{"hosts.toml"}},
		{
			[]string{"buildkit", "--gate", gate},
			[]string{
				"http = true",
				"do NOT hold",
				"docker-image://127.0.0.1:5000/docker.io/${1}",
				"--source-policy-file /etc/buildkit/pullgate-policy.json",
			},
			[]string{"mirrors ="},
		},
		{
			[]string{"k3s", "--gate", gate},
			[]string{"/etc/rancher/k3s/registries.yaml", "disable-default-registry-endpoint: true", "not measured"},
			nil,
		},
		{[]string{"rke2", "--gate", gate}, []string{"/etc/rancher/rke2/registries.yaml"}, []string{"k3s"}},
		{[]string{"talos", "--gate", gate}, []string{"skipFallback: true", "not measured"}, nil},
	} {
		t.Run(strings.ReplaceAll(strings.Join(row.args, " "), "/", "_"), func(t *testing.T) {
			out, err := nodeConfig(t, row.args...)
			if err != nil {
				t.Error(err)
			}
			for _, want := range row.has {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not printed:\n%s", want, out)
				}
			}
			for _, not := range row.hasNo {
				if strings.Contains(out, not) {
					t.Errorf("%q is printed:\n%s", not, out)
				}
			}
		})
	}
}

// TestMalformedNodeConfig: what is refused, and with which words.
func TestMalformedNodeConfig(t *testing.T) {
	t.Parallel()
	const gate, secure = "http://127.0.0.1:5000", "https://gate.example:5000"
	login := loginFile(t, "ci:s3cret")
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"containerd", "--gate", secure, "--cert", "/c.pem"}, "--cert and --key"},
		{[]string{"containerd", "--gate", secure, "--cert", "c.pem", "--key", "/k.pem"}, "absolute"},
		{[]string{"containerd", "--gate", gate, "--cert", "/c.pem", "--key", "/k.pem"}, "https gate"},
		{[]string{"containerd", "--gate", "http://gate.example:5000", "--login", login}, "others could have read"},
		{[]string{"containerd", "--gate", secure, "--login", loginFile(t, "s3cret")}, "USER:PASSWORD"},
		{[]string{"containerd", "--gate", secure, "--login", loginFile(t, "ci:s3cret\nx:y")}, "one line"},
		{[]string{"containerd", "--gate", secure, "--login", loginFile(t, "\n")}, "is empty"},
		{[]string{"containerd", "--gate", secure, "--login", "/nowhere/login"}, "--login"},
		{[]string{"rkt", "--gate", gate}, `"rkt" is not known; known are buildkit, containerd`},
		{[]string{"containerd", "--gate", gate, "--version", "1.4"}, "1.6, 1.7 and 2 are"},
		{[]string{"containerd", "--gate", gate, "--version", "new"}, "is no version"},
		{[]string{"docker", "--gate", gate, "--version", "new"}, "is no version"},
		{[]string{"containerd", "--gate", "gate.example"}, "--gate"},
		{[]string{"containerd"}, "--gate"},
		{[]string{"containerd", "--gate", gate + "/v2"}, "--gate"},
		{[]string{"containerd", "--gate", "http://u:p@gate.example"}, "--gate"},
		{[]string{"containerd", "--gate", gate, "--ca", "/ca.pem"}, "https gate"},
		{[]string{"containerd", "--gate", secure, "--ca", "ca.pem"}, "absolute"},
		{[]string{"containerd", "--gate", gate, "--upstream", "ghcr.io/acme"}, "registry's host"},
		{[]string{"containerd", "--gate", gate, "--upstream", "../x"}, "registry's host"},
	} {
		if _, err := nodeConfig(t, row.args...); err == nil || !strings.Contains(err.Error(), row.want) ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v: %v; want %q", row.args, err, row.want)
		}
	}
}

func loginFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestIdentityFiles: what a node shows the gate is in its files, those that hold a
// password are for root alone, and without an identity nothing of it is there.
func TestIdentityFiles(t *testing.T) {
	t.Parallel()
	const header = "Basic Y2k6czNjcmV0"
	identity := []string{
		"--gate", "https://gate.example:5000", "--ca", "/ca.pem", "--cert", "/c.pem", "--key", "/k.pem",
		"--login", loginFile(t, "ci:s3cret\n"),
	}
	for runtime, row := range map[string]struct {
		secret string // file
		has    []string
	}{
		"containerd": {
			"etc/containerd/certs.d/docker.io/hosts.toml",
			[]string{`client = [["/c.pem", "/k.pem"]]`, header},
		},
		"docker": {"", []string{"ln -s /c.pem /etc/docker/certs.d/gate.example:5000/client.cert", "docker login gate"}},
		"podman": {"etc/pullgate/auth.json", []string{"gate.example:5000/client.key", "Y2k6czNjcmV0"}},
		"cri-o":  {"etc/pullgate/auth.json", []string{`global_auth_file = "/etc/pullgate/auth.json"`}},
		"k3s": {
			"etc/rancher/k3s/registries.yaml",
			[]string{`cert_file: "/c.pem", key_file: "/k.pem"`, `auth: {auth: "Y2k6czNjcmV0"}`},
		},
		"talos":    {"pullgate.patch.yaml", []string{"clientIdentity", `auth: {auth: "Y2k6czNjcmV0"}`}},
		"buildkit": {"", []string{`[[registry."gate.example:5000".keypair]]`, "docker login"}},
	} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out, err := nodeConfig(t, append([]string{runtime, "--write", dir}, identity...)...)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range row.has {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not printed:\n%s", want, out)
				}
			}
			if row.secret != "" {
				info, err := os.Stat(filepath.Join(dir, row.secret))
				if err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the password's file: %v %v", info.Mode(), err)
				}
			}

			plain, err := nodeConfig(t, runtime, "--gate", "https://gate.example:5000")
			if err != nil {
				t.Fatal(err)
			}
			for _, not := range []string{"auth", "Authorization", "client", "keypair", "login"} {
				if strings.Contains(plain, not) && not != "client" {
					t.Errorf("%q is printed without an identity:\n%s", not, plain)
				}
			}
		})
	}
}

// TestWrittenNodeFiles: files are written once, and never over others.
func TestWrittenNodeFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"podman", "--gate", "http://127.0.0.1:5000", "--write", dir}
	for range 2 { // the second time nothing is different
		if _, err := nodeConfig(t, args...); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "etc/containers/registries.conf.d/900-pullgate.conf")
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "location") {
		t.Fatalf("%v %s", err, text)
	}
	_, err := nodeConfig(t, "podman", "--gate", "http://127.0.0.1:6000", "--write", dir)
	if err == nil || !strings.Contains(err.Error(), "says something else") {
		t.Errorf("a file was written over: %v", err)
	}
}
