package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestBadKeys: a key that cannot be used is named, with what to do about it.
func TestBadKeys(t *testing.T) {
	registry := startGGCR(t)
	pushIndex(t, registry+"/team/app:v1", 100)
	dir := t.TempDir()
	pair := filepath.Join(dir, "team")
	mustRunEnv(t, "a password", binary(t), "generate-key-pair", "--output", pair)
	plain, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(plain)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string { return writeFile(t, filepath.Join(dir, name), text) }
	for name, row := range map[string]struct{ key, password, want string }{
		"wrong password": {pair + ".key", "another", "set COSIGN_PASSWORD to the right one"},
		"no password":    {pair + ".key", "", "set COSIGN_PASSWORD to the right one"},
		"public key":     {pair + ".pub", "a password", "signing needs the private one, which ends in .key"},
		"plain key": {
			file("plain.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
			"",
			"cosign import-key-pair",
		},
		"ssh key": {
			file("id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE=\n"+
				"-----END OPENSSH PRIVATE KEY-----\n"),
			"",
			"cosign import-key-pair",
		},
		"no key at all": {
			file("notes.txt", "my key is under the mat\n"),
			"",
			"make one with `pullgate generate-key-pair`",
		},
		"damaged": {
			file("damaged.key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\ne30=\n"+
				"-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"),
			"a password",
			"the password does not open",
		},
		"missing": {filepath.Join(dir, "none.key"), "a password", "make one with `pullgate generate-key-pair`"},
		"folder":  {dir, "a password", "is a folder"},
	} {
		out, err := runEnv(t, row.password, binary(t), "sign", "--key", row.key, registry+"/team/app:v1")
		if exitCode(t, err) != 2 || !strings.Contains(out, row.want) || !strings.Contains(out, filepath.Base(row.key)) {
			t.Errorf("%s: exit %d, want 2 and %q:\n%s", name, exitCode(t, err), row.want, out)
		}
	}
	t.Run("somebody else's", func(t *testing.T) {
		n := newNode(t, []string{"COSIGN_PASSWORD=a password"})
		text, err := os.ReadFile(pair + ".key")
		if err != nil {
			t.Fatal(err)
		}
		n.write(t, "/var/lib/team.key", string(text)) // root's, mode 0600
		out, err := n.as(t, "65534").run(t, binary(t), "sign", "--key", "/var/lib/team.key", registry+"/team/app:v1")
		if exitCode(t, err) != 2 || !strings.Contains(out, "sign as who may read it") {
			t.Errorf("exit %d:\n%s", exitCode(t, err), out)
		}
		out, err = n.as(t, "65534").run(t, binary(t), "generate-key-pair", "--output", "/var/lib/mine")
		if exitCode(t, err) != 2 || !strings.Contains(out, "choose another --output") {
			t.Errorf("exit %d:\n%s", exitCode(t, err), out)
		}
	})
}

// TestReadOnlyRegistry: a registry that takes no pushes is said to be one.
func TestReadOnlyRegistry(t *testing.T) {
	data := t.TempDir()
	d := pushIndex(t, startDistributionOn(t, data, "delete: {enabled: true}", "")+"/team/app:v1", 100)
	registry := startDistributionOn(t, data, "maintenance: {readonly: {enabled: true}}", "")
	key, public := keyPair(t)
	for _, format := range []string{"bundle", "legacy"} {
		out, err := runEnv(t, "", binary(t), "sign", "--key", key, "--format", format, registry+"/team/app:v1")
		if exitCode(t, err) == 0 || !strings.Contains(out, "this registry takes no pushes") ||
			strings.Contains(out, "signed ") {
			t.Errorf("%s: exit %d:\n%s", format, exitCode(t, err), out)
		}
	}
	notVerified(t, public, registry+"/team/app@"+d)
}

// notVerified demands that neither pullgate nor cosign finds a signature by the key.
func notVerified(t *testing.T, public, ref string) {
	t.Helper()
	if out, err := run(
		t,
		binary(t),
		"verify",
		"--key",
		public,
		"--plain-http",
		ref,
	); exitCode(t, err) != 1 ||
		!strings.Contains(out, "no signature found") {
		t.Errorf("pullgate verify: exit %d:\n%s", exitCode(t, err), out)
	}
	if out, err := run(t, "cosign", "verify", "--key", public, "--insecure-ignore-tlog=true", ref); err == nil {
		t.Errorf("cosign verifies it:\n%s", out)
	}
}

// TestHalfSigned: whatever write a registry refuses while an image is signed,
// sign says that it failed, nothing verifies, and signing again mends it.
func TestHalfSigned(t *testing.T) {
	need(t, "cosign")
	key, public := keyPair(t)
	manifest := func(tag bool) func(r *http.Request) bool {
		return func(r *http.Request) bool {
			_, reference, ok := strings.Cut(r.URL.Path, "/manifests/")
			return ok && r.Method == http.MethodPut && strings.HasPrefix(reference, "sha256-") == tag
		}
	}
	blob := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/uploads/") }
	for name, row := range map[string]struct {
		registry, format string
		refuse           func(r *http.Request) bool
		written          bool // the manifest is there, and nothing names it
	}{
		"bundle, no blob":                    {"distribution", "bundle", blob, false},
		"bundle, no manifest":                {"distribution", "bundle", manifest(false), false},
		"bundle, manifest but no index":      {"distribution", "bundle", manifest(true), true},
		"bundle with referrers, no blob":     {"olareg", "bundle", blob, false},
		"bundle with referrers, no manifest": {"olareg", "bundle", manifest(false), false},
		"legacy, no blob":                    {"distribution", "legacy", blob, false},
		"legacy, no manifest":                {"distribution", "legacy", manifest(true), false},
	} {
		t.Run(name, func(t *testing.T) {
			registry := registries[row.registry](t)
			for status, want := range map[int]string{
				http.StatusForbidden:           "docker login",
				http.StatusMethodNotAllowed:    "takes no pushes",
				http.StatusInsufficientStorage: "sign again",
			} {
				repo := fmt.Sprintf("half/app%d", status)
				d := pushIndex(t, registry+"/"+repo+":v1", 100)
				faulty := startFaulty(t, registry, status, row.refuse)
				out, err := run(t, binary(t), "sign", "--key", key, "--format", row.format, faulty.addr+"/"+repo+":v1")
				if exitCode(t, err) == 0 || strings.HasPrefix(out, "signed ") || !strings.Contains(out, want) {
					t.Errorf("%d: exit %d, want %q:\n%s", status, exitCode(t, err), want, out)
				}
				if faulty.refused.Load() == 0 || row.written != (faulty.manifests.Load() > 0) {
					t.Errorf(
						"%d: %d writes refused, %d manifests written: not the failure this row is for",
						status,
						faulty.refused.Load(),
						faulty.manifests.Load(),
					)
				}
				notVerified(t, public, registry+"/"+repo+"@"+d)
				mustRun(t, binary(t), "sign", "--key", key, "--format", row.format, registry+"/"+repo+":v1")
				mustRun(t, binary(t), "verify", "--key", public, "--plain-http", registry+"/"+repo+"@"+d)
			}
		})
	}
}

// faulty is a registry that refuses some writes.
type faulty struct {
	addr               string
	refused, manifests atomic.Int64
}

func startFaulty(t *testing.T, registry string, status int, refuse func(r *http.Request) bool) *faulty {
	t.Helper()
	f := &faulty{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse(r) {
			f.refused.Add(1)
			w.WriteHeader(status)
			return
		}
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			f.manifests.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	f.addr = strings.TrimPrefix(s.URL, "http://")
	return f
}

// TestBadNodes: what node-config cannot help with, it says so, and writes nothing.
func TestBadNodes(t *testing.T) {
	const gate = "http://127.0.0.1:5000"
	dir := t.TempDir()
	hosts := writeFile(
		t,
		filepath.Join(dir, "etc/containerd/certs.d/docker.io/hosts.toml"),
		"server = \"https://registry-1.docker.io\"\n",
	)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"rkt", "--gate", gate}, "known are buildkit, containerd, cri-o, docker"},
		{
			[]string{"containerd", "--gate", gate, "--version", "1.5"},
			"containerd 1.5 is not supported: 1.6, 1.7 and 2 are",
		},
		{[]string{"containerd", "--gate", gate, "--version", "3"}, "containerd 3 is not supported"},
		{[]string{"docker", "--gate", gate, "--version", "latest"}, "write it like 1.6 or 29"},
		{[]string{"podman"}, "--gate"},
		{[]string{"containerd", "--gate", gate, "--write", dir}, "bring the two together by hand; nothing was written"},
		{[]string{"podman", "--gate", gate, "--write", hosts}, "write node configuration"},
	} {
		out, err := run(t, binary(t), append([]string{"node-config"}, row.args...)...)
		if exitCode(t, err) != 2 || !strings.Contains(out, row.want) {
			t.Errorf("%v: exit %d, want 2 and %q:\n%s", row.args, exitCode(t, err), row.want, out)
		}
	}
	if text, err := os.ReadFile(hosts); err != nil || strings.Contains(string(text), gate) {
		t.Errorf("a file of the node was written over: %v\n%s", err, text)
	}
}
