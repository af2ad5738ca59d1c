package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // helm tells of each link that it follows into deploy/alerts and deploy/dashboards
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a left-over folder is no test result
	}
	os.Exit(code)
}

// binary is the pullgate of this checkout.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "pullgate-deploy-"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", built.dir, "./cmd/pullgate")
		build.Dir = root
		build.Stderr = os.Stderr
		built.err = build.Run()
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "pullgate")
}

// TestChartConfiguration: the gate itself accepts the configuration of every
// installation, with the variables that its container gets.
func TestChartConfiguration(t *testing.T) {
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			found := mustRender(t, values)
			node := layOut(t, found)
			pod, _ := podOf(t, found)

			file := filepath.Join(node, "config", "pullgate.yaml")
			withoutDatabase(t, file)

			check := exec.Command(binary(t), "check", "--config", file)
			check.Env = append(os.Environ(), environment(pod.Spec.Containers[0])...)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// withoutDatabase takes `database` out of a configuration until the gate has that
// setting, which config.example.yaml then shows: a test there holds it to the code.
func withoutDatabase(t *testing.T, file string) {
	t.Helper()
	example, err := os.ReadFile(filepath.Join(root, "config.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^(# )?database:`).Match(example) {
		return
	}

	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, regexp.MustCompile(`(?m)^database\w*: .*\n`).ReplaceAllString(string(text), ""))
}

// environment are the container's own variables, as the kubelet expands them.
func environment(c core.Container) []string {
	var variables []string
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			variables = append(variables, e.Name+"="+strings.ReplaceAll(e.Value, "$(HOST_IP)", "192.0.2.7"))
		}
	}
	return variables
}

// layOut writes /etc/pullgate of the installation's container below a folder, with
// a key pair where its Secrets are, and returns that folder.
func layOut(t *testing.T, found []object) string {
	t.Helper()
	dir := t.TempDir()
	pod, _ := podOf(t, found)
	maps := map[string]*core.ConfigMap{}
	for _, o := range found {
		if m, ok := decode(t, o).(*core.ConfigMap); ok {
			maps[m.Name] = m
		}
	}

	folders := map[string]string{}
	for _, m := range pod.Spec.Containers[0].VolumeMounts {
		if rest, ours := strings.CutPrefix(m.MountPath, "/etc/pullgate/"); ours {
			folders[m.Name] = filepath.Join(dir, rest)
		}
	}
	for _, v := range pod.Spec.Volumes {
		switch folder := folders[v.Name]; {
		case folder == "":
		case v.ConfigMap != nil && maps[v.ConfigMap.Name] != nil:
			for name, text := range maps[v.ConfigMap.Name].Data {
				write(t, filepath.Join(folder, name), strings.ReplaceAll(text, "/etc/pullgate/", dir+"/"))
			}
		case v.ConfigMap != nil: // one that exists already
			write(
				t,
				filepath.Join(folder, "team.yaml"),
				"policies: [{name: t, images: [\"a.example/**\"], static: deny}]\n",
			)
		default:
			writeSecret(t, folder)
		}
	}
	return dir
}

// writeSecret writes what the Secrets of the installations hold.
func writeSecret(t *testing.T, folder string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"gate.example"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}

	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	write(t, filepath.Join(folder, "tls.crt"), text("CERTIFICATE", certificate))
	write(t, filepath.Join(folder, "tls.key"), text("PRIVATE KEY", private))
	write(t, filepath.Join(folder, "cosign.pub"), text("PUBLIC KEY", public))
	write(t, filepath.Join(folder, "password"), "secret")
	write(t, filepath.Join(folder, "namespace"), strings.Repeat("0123456789abcdef", 4)+"\n")
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestChartHold runs the container that holds a node's containerd, with a folder
// as the node: it writes what leads to the gate, the second time nothing, and
// nothing over what somebody else has written.
func TestChartHold(t *testing.T) {
	pod, _ := podOf(t, mustRender(t, valuesFiles(t)["node-local"]))
	hold := pod.Spec.InitContainers[0]
	node := t.TempDir()
	run := func() ([]byte, error) {
		args := append([]string(nil), hold.Args...)
		for i, arg := range args {
			args[i] = strings.Replace(arg, "--write=/host", "--write="+node, 1)
		}
		return exec.Command(binary(t), args...).CombinedOutput()
	}

	if mount := hold.VolumeMounts[0].MountPath; mount != "/host/etc/containerd/certs.d" {
		t.Errorf("the folder is mounted at %s, where nothing is written", mount)
	}
	for range 2 {
		if out, err := run(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for _, host := range []string{"docker.io", "ghcr.io", "registry.k8s.io"} {
		text, err := os.ReadFile(filepath.Join(node, "etc/containerd/certs.d", host, "hosts.toml"))
		if err != nil || !strings.Contains(string(text), `server = "http://127.0.0.1:5000"`) {
			t.Errorf("%s is not held: %v\n%s", host, err, text)
		}
	}

	write(t, filepath.Join(node, "etc/containerd/certs.d/ghcr.io/hosts.toml"), "server = \"https://mirror.example\"\n")
	if out, err := run(); err == nil {
		t.Errorf("went on over another's file:\n%s", out)
	}
}
