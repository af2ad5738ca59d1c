package e2e

import (
	"debug/elf"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// imageVersion is what the test has the Dockerfile stamp.
const imageVersion = "v9.8.7-test"

// builder is buildah with a storage of its own.
type builder struct{ global []string }

// newBuilder makes the base that the Dockerfile names from this machine's Go, its
// shell and its certificates, because no registry is asked.
func newBuilder(t *testing.T) *builder {
	t.Helper()
	if os.Getenv("PULLGATE_E2E") != "1" {
		t.Skip("it takes minutes")
	}
	needRoot(t)
	need(t, "buildah", "go", "ldd", "sh", "mkdir")
	dir := t.TempDir()
	b := &builder{global: []string{
		"--root", filepath.Join(dir, "root"),
		"--runroot", filepath.Join(dir, "run"),
		"--storage-driver", "vfs",
	}}

	base := strings.TrimSpace(b.run(t, "from", "scratch"))
	goroot := strings.TrimSpace(mustRun(t, "go", "env", "GOROOT"))
	b.run(t, "copy", base, goroot, "/usr/local/go")
	b.run(t, "copy", base, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt")
	b.run(t, "copy", base, t.TempDir(), "/tmp")
	for _, name := range []string{"sh", "mkdir"} {
		b.copyProgram(t, base, name)
	}
	b.run(t, "config",
		"--env", "PATH=/usr/local/go/bin:/usr/bin:/bin", "--env", "GOPATH=/go", "--env", "GOTOOLCHAIN=local",
		"--env", "GOPROXY=off", "--env", "HOME=/root", base)
	b.run(t, "commit", "--rm", base, "docker.io/library/golang:1.26")
	return b
}

// copyProgram copies a program of this machine with the libraries that it is
// linked to.
func (b *builder) copyProgram(t *testing.T, base, name string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	b.run(t, "copy", base, path, "/bin/"+name)

	for field := range strings.FieldsSeq(mustRun(t, "ldd", path)) {
		if strings.HasPrefix(field, "/") {
			b.run(t, "copy", base, field, field)
		}
	}
}

func (b *builder) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("buildah", append(append([]string(nil), b.global...), args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf(
			"buildah %s: %v\n%s\n%s",
			strings.Join(args, " "),
			err,
			tail(string(out), 4000),
			tail(errs.String(), 4000),
		)
	}
	return string(out)
}

// build builds the Dockerfile for a platform and returns where the image's files
// are. Modules and what was compiled before are this machine's.
func (b *builder) build(t *testing.T, platform string) (image, files string) {
	t.Helper()
	image = "localhost/pullgate:" + filepath.Base(platform)
	b.run(t, "bud",
		"--isolation", "chroot", "--pull-never", "--platform", platform,
		"--build-arg", "BUILDPLATFORM=linux/"+runtime.GOARCH, // buildah 1.28 does not say so itself, BuildKit does
		"--build-arg", "VERSION="+imageVersion, "--build-arg", "REVISION=0123456789abcdef",
		"--volume", strings.TrimSpace(mustRun(t, "go", "env", "GOMODCACHE"))+":/go/pkg/mod",
		"--volume", strings.TrimSpace(mustRun(t, "go", "env", "GOCACHE"))+":/root/.cache/go-build",
		"--tag", image, "../..")
	container := strings.TrimSpace(b.run(t, "from", "--pull-never", image))
	t.Cleanup(func() { b.run(t, "rm", container) })
	return image, strings.TrimSpace(b.run(t, "mount", container))
}

// imageConfig is what an image says of itself.
type imageConfig struct {
	Architecture string `json:"architecture"`
	Config       struct {
		User       string
		Entrypoint []string
		Labels     map[string]string
	} `json:"config"`
}

func (b *builder) inspect(t *testing.T, image string) imageConfig {
	t.Helper()
	var about struct{ OCIv1 imageConfig }
	if err := json.Unmarshal([]byte(b.run(t, "inspect", "--type", "image", image)), &about); err != nil {
		t.Fatal(err)
	}
	return about.OCIv1
}

// TestContainerImage builds the Dockerfile and lets what comes of it answer pulls:
// chrooted into the image's files, as the image's user, with nothing else there.
func TestContainerImage(t *testing.T) {
	b := newBuilder(t)
	image, files := b.build(t, "linux/"+runtime.GOARCH)

	t.Run("configuration", func(t *testing.T) {
		c := b.inspect(t, image).Config
		if c.User != "65532:65532" || strings.Join(c.Entrypoint, " ") != "/pullgate" {
			t.Errorf("user %q, entry point %q", c.User, c.Entrypoint)
		}
		for label, want := range map[string]string{
			"version":  imageVersion,
			"revision": "0123456789abcdef",
			"licenses": "Apache-2.0",
		} {
			if got := c.Labels["org.opencontainers.image."+label]; got != want {
				t.Errorf("label %s is %q, not %q", label, got, want)
			}
		}
	})

	t.Run("pulls", func(t *testing.T) { pullThroughImage(t, files) })

	t.Run("another architecture", func(t *testing.T) {
		arch, machine := "arm64", elf.EM_AARCH64
		if runtime.GOARCH == "arm64" {
			arch, machine = "amd64", elf.EM_X86_64
		}
		image, files := b.build(t, "linux/"+arch)
		if got := b.inspect(t, image).Architecture; got != arch {
			t.Errorf("the image is for %s", got)
		}
		program, err := elf.Open(filepath.Join(files, "pullgate"))
		if err != nil {
			t.Fatal(err)
		}
		defer program.Close()
		if program.Machine != machine {
			t.Errorf("the program is for %s", program.Machine)
		}
	})
}

// pullThroughImage runs the image's program and pulls an admitted and a refused
// image from it.
func pullThroughImage(t *testing.T, files string) {
	t.Helper()
	registry := startDistribution(t)
	private, public := keyPair(t)
	pushIndex(t, registry+"/acme/signed:v1", 1000)
	pushIndex(t, registry+"/acme/unsigned:v1", 1000)
	signers["v3 bundle"](t, private, registry+"/acme/signed:v1")
	key, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}

	addr := "127.0.0.1:" + freePort(t)
	config := filepath.Join(files, "etc", "pullgate", "pullgate.yaml")
	writeFile(t, filepath.Join(filepath.Dir(config), "cosign.pub"), string(key))
	writeFile(t, config, "listen: "+addr+"\nadmin: {listen: \"127.0.0.1:"+freePort(t)+"\"}\n"+
		"upstreams: [{host: reg.test, url: \"http://"+registry+"\"}]\n"+
		"policies: [{name: ours, images: [\"reg.test/**\"], authorities: [{key: cosign.pub}]}]\n")
	for _, name := range []string{config, filepath.Join(filepath.Dir(config), "cosign.pub")} {
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	out, err := inImage(files, "version", "--json").CombinedOutput()
	for _, want := range []string{`"version": "` + imageVersion + `"`, `"commit": "0123456789abcdef"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in what it calls itself, %v: %s", want, err, out)
		}
	}
	gate := &process{cmd: inImage(files, "serve", "--config", "/etc/pullgate/pullgate.yaml"), log: &logBuffer{}}
	gate.run(t)
	waitHTTP(t, gate, "http://"+addr+"/v2/")

	for name, want := range map[string]int{"signed": http.StatusOK, "unsigned": http.StatusForbidden} {
		resp, err := http.Get("http://" + addr + "/v2/reg.test/acme/" + name + "/manifests/v1")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered %d, not %d: %s", name, resp.StatusCode, want, body)
		}
	}
	if _, err := os.Stat(filepath.Join(files, "var", "lib", "pullgate", "facts.db")); err != nil {
		t.Errorf("nothing is in the image's volume: %v", err)
	}
}

// inImage is the image's program as a container would start it: its files and no
// others, its user, its variables.
func inImage(files string, args ...string) *exec.Cmd {
	cmd := exec.Command("/pullgate", args...)
	cmd.Path, cmd.Err = "/pullgate", nil
	cmd.Dir = "/"
	cmd.Env = []string{"PULLGATE_STATE_PATH=/var/lib/pullgate", "TMPDIR=/var/lib/pullgate"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:     files,
		Credential: &syscall.Credential{Uid: 65532, Gid: 65532, NoSetGroups: false},
	}
	cmd.WaitDelay = time.Second
	return cmd
}
