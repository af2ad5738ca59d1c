package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// client pulls name:v1 of reg.test through the gate, into an empty store.
type client struct {
	name string
	// start brings up what the client needs and returns its pull command.
	start func(t *testing.T, g *gate) func(t *testing.T, image string) (output string, err error)
	// shows says that the client prints the refusal's text, not only the status.
	shows bool
}

var clients = []client{
	{"crane", startCrane, true},
	{"skopeo", startSkopeo, true},
	{"podman", startPodman, true},
	{"containerd 1.6", startContainerd16, false}, // prints the status line only
	{"containerd 2", startContainerd2, true},
	{"docker", startDocker, true},
}

type pull = func(t *testing.T, image string) (string, error)

func startCrane(t *testing.T, g *gate) pull {
	need(t, "crane")
	return func(t *testing.T, image string) (string, error) {
		return run(t, "crane", "pull", g.name(image), filepath.Join(t.TempDir(), "image.tar"))
	}
}

func startSkopeo(t *testing.T, g *gate) pull {
	need(t, "skopeo")
	return func(t *testing.T, image string) (string, error) {
		return run(
			t,
			"skopeo",
			"--insecure-policy",
			"copy",
			"--src-tls-verify=false",
			"docker://"+g.name(image),
			"dir:"+t.TempDir(),
		)
	}
}

func startPodman(t *testing.T, g *gate) pull {
	need(t, "podman")
	needRoot(t)
	dir := t.TempDir()
	policy := writeFile(t, filepath.Join(dir, "policy.json"), `{"default":[{"type":"insecureAcceptAnything"}]}`)
	return func(t *testing.T, image string) (string, error) {
		return run(
			t,
			"podman",
			"--root",
			dir+"/root",
			"--runroot",
			dir+"/run",
			"--storage-driver",
			"vfs",
			"--cgroup-manager",
			"cgroupfs",
			"--events-backend",
			"file",
			"pull",
			"--signature-policy",
			policy,
			"--tls-verify=false",
			g.name(image),
		)
	}
}

func startContainerd16(t *testing.T, g *gate) pull {
	return startContainerd(t, g, "/usr/bin/containerd", "/usr/bin/ctr", 2, "", "--snapshotter", "native")
}

func startContainerd2(t *testing.T, g *gate) pull {
	need(t, "containerd2", "ctr2")
	return startContainerd(t, g, "containerd2", "ctr2", 3, `disabled_plugins = ["io.containerd.nri.v1.nri"]`)
}

// startContainerd points containerd at the gate by the one hosts.toml that
// holds in both lines: the gate as server and as host.
func startContainerd(t *testing.T, g *gate, daemon, ctr string, version int, more string, flags ...string) pull {
	t.Helper()
	needRoot(t)
	need(t, daemon, ctr, "runc")
	dir, err := os.MkdirTemp("", "ctrd") // short: a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := writeFile(t, dir+"/config.toml", `version = `+string(rune('0'+version))+`
root = "`+dir+`/root"
state = "`+dir+`/state"
`+more+`
[grpc]
  address = "`+dir+`/c.sock"
`)
	writeFile(t, dir+"/hosts/reg.test/hosts.toml", `server = "http://`+g.addr+`"
[host."http://`+g.addr+`"]
  capabilities = ["pull", "resolve"]
`)
	p := start(t, nil, daemon, "-c", config)
	waitFile(t, p, dir+"/c.sock")
	return func(t *testing.T, image string) (string, error) {
		args := append([]string{
			"-a",
			dir + "/c.sock",
			"-n",
			"e2e",
			"images",
			"pull",
			"--hosts-dir",
			dir + "/hosts",
		}, flags...)
		return run(t, ctr, append(args, "reg.test/"+image)...)
	}
}

func startDocker(t *testing.T, g *gate) pull {
	needRoot(t)
	need(t, "/usr/sbin/dockerd", "/usr/bin/docker")
	dir, err := os.MkdirTemp("", "dockr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := start(
		t,
		nil,
		"/usr/sbin/dockerd",
		"--iptables=false",
		"--ip6tables=false",
		"--bridge=none",
		"--data-root",
		dir+"/root",
		"--exec-root",
		dir+"/exec",
		"--pidfile",
		dir+"/d.pid",
		"-H",
		"unix://"+dir+"/d.sock",
		"--storage-driver",
		"vfs",
	)
	waitFile(t, p, dir+"/d.sock")
	return func(t *testing.T, image string) (string, error) {
		out, err := run(t, "/usr/bin/docker", "-H", "unix://"+dir+"/d.sock", "pull", g.name(image))
		for range 20 {
			if err == nil || !strings.Contains(out, "Cannot connect to the Docker daemon") {
				break
			}
			out, err = run(t, "/usr/bin/docker", "-H", "unix://"+dir+"/d.sock", "pull", g.name(image))
		}
		return out, err
	}
}
