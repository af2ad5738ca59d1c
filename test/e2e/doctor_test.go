package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wrapper puts a command in front of the real one, which gives it the test's
// own daemon and storage; doctor itself is run as on a real node.
func wrapper(t *testing.T, bin, name, line string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+line+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

type diagnosis struct {
	Runtime, Outcome, Says, Command, Output string
	Advice                                  []string
}

// runDoctor examines one runtime; root holds the node's files.
func runDoctor(t *testing.T, g *gate, bin, root, canary, runtime string) (diagnosis, bool) {
	t.Helper()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	textfile := filepath.Join(root, "doctor.prom")
	out, err := run(t, binary(t), "doctor", runtime, "--gate", "http://"+g.addr, "--canary", canary, "--root", root, "--json", "--textfile", textfile)
	var found []diagnosis
	text, _, _ := strings.Cut(out, "pullgate:")
	if jerr := json.Unmarshal([]byte(text), &found); jerr != nil || len(found) != 1 {
		t.Fatalf("doctor says %v\n%s", err, out)
	}
	metrics, rerr := os.ReadFile(textfile)
	want := `pullgate_doctor_held{runtime="` + runtime + `",outcome="held"} 1`
	if rerr != nil || strings.Contains(string(metrics), want) != (found[0].Outcome == "held") {
		t.Errorf("the textfile does not agree: %v\n%s", rerr, metrics)
	}
	return found[0], err == nil
}

// TestDoctor: the naive configuration of each runtime is BYPASSED, the right one
// is held, and without a way to the gate it is NOT ASKED.
func TestDoctor(t *testing.T) {
	needRoot(t)
	registry := startDistribution(t)
	_, public := keyPair(t)
	pushIndex(t, registry+"/team/canary:v1", 100)
	const canary = "reg.test/team/canary:v1"
	g := startGateWith(t, registry, "", signedBy(public)+"\n    mode: warn\ncanary: "+canary)
	if status, body := get(t, g, "team/canary/manifests/v1"); status != 403 {
		t.Fatalf("the canary under warn: %d %s", status, body)
	}
	expect := func(t *testing.T, d diagnosis, fine bool, outcome, advice string) {
		t.Helper()
		if d.Outcome != outcome || fine != (outcome == "held") {
			t.Errorf("%s, exit 0 is %v; want %s: %s\n%s\n%s", d.Outcome, fine, outcome, d.Says, d.Command, d.Output)
		}
		if all := strings.Join(d.Advice, "\n"); advice == "" != (all == "") || !strings.Contains(all, advice) {
			t.Errorf("the configuration is said to have %q, want %q", all, advice)
		}
	}
	t.Run("containerd", func(t *testing.T) {
		for daemon, ctr := range map[string]string{"/usr/bin/containerd": "/usr/bin/ctr", "containerd2": "ctr2"} {
			need(t, daemon, ctr, "runc")
			dir, err := os.MkdirTemp("", "ctrd")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			version := "2"
			if daemon == "containerd2" {
				version = "3"
			}
			config := writeFile(t, dir+"/config.toml", "version = "+version+"\nroot = \""+dir+"/root\"\nstate = \""+dir+"/state\"\ndisabled_plugins = [\"io.containerd.nri.v1.nri\"]\n[grpc]\n  address = \""+dir+"/c.sock\"\n")
			p := start(t, nil, daemon, "-c", config)
			waitFile(t, p, dir+"/c.sock")
			bin, root := t.TempDir(), t.TempDir()
			path := mustRun(t, "sh", "-c", "command -v "+ctr)
			wrapper(t, bin, "ctr", strings.TrimSpace(path)+" -a "+dir+"/c.sock")
			hosts := filepath.Join(root, "etc/containerd/certs.d/reg.test/hosts.toml")
			writeFile(t, hosts, "server = \"http://"+registry+"\"\n[host.\"http://"+g.addr+"\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
			d, fine := runDoctor(t, g, bin, root, canary, "containerd")
			expect(t, d, fine, "BYPASSED", "has server http://"+registry)
			if err := os.Remove(hosts); err != nil {
				t.Fatal(err)
			}
			mustRun(t, binary(t), "node-config", "containerd", "--gate", "http://"+g.addr, "--upstream", "reg.test", "--write", root)
			d, fine = runDoctor(t, g, bin, root, canary, "containerd")
			expect(t, d, fine, "held", "")
			nobody := "http://127.0.0.1:" + freePort(t)
			writeFile(t, hosts, "server = \""+nobody+"\"\n[host.\""+nobody+"\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
			d, fine = runDoctor(t, g, bin, root, canary, "containerd")
			expect(t, d, fine, "NOT ASKED", "has server")
		}
	})
	t.Run("podman", func(t *testing.T) {
		need(t, "/usr/bin/podman")
		bin, root, dir := t.TempDir(), t.TempDir(), t.TempDir()
		conf := filepath.Join(root, "etc/containers/registries.conf")
		wrapper(t, bin, "podman", "CONTAINERS_REGISTRIES_CONF="+conf+" /usr/bin/podman --root "+dir+"/root --runroot "+dir+"/run --storage-driver vfs --cgroup-manager cgroupfs --events-backend file")
		writeFile(t, conf, "[[registry]]\nprefix = \"reg.test\"\nlocation = \""+registry+"\"\ninsecure = true\n[[registry.mirror]]\nlocation = \""+g.addr+"/reg.test\"\ninsecure = true\n")
		d, fine := runDoctor(t, g, bin, root, canary, "podman")
		expect(t, d, fine, "BYPASSED", "use location instead")
		if err := os.Remove(conf); err != nil {
			t.Fatal(err)
		}
		mustRun(t, binary(t), "node-config", "podman", "--gate", "http://"+g.addr, "--upstream", "reg.test", "--write", root)
		if err := os.Symlink("registries.conf.d/900-pullgate.conf", conf); err != nil {
			t.Fatal(err)
		}
		d, fine = runDoctor(t, g, bin, root, canary, "podman")
		expect(t, d, fine, "held", "")
	})
	t.Run("docker", func(t *testing.T) {
		need(t, "/usr/sbin/dockerd", "/usr/bin/docker")
		dir, err := os.MkdirTemp("", "dockr")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		p := start(t, nil, "/usr/sbin/dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--data-root", dir+"/root", "--exec-root", dir+"/exec",
			"--pidfile", dir+"/d.pid", "-H", "unix://"+dir+"/d.sock", "--storage-driver", "vfs")
		waitFile(t, p, dir+"/d.sock")
		bin, root := t.TempDir(), t.TempDir()
		wrapper(t, bin, "docker", "/usr/bin/docker -H unix://"+dir+"/d.sock")
		d, fine := runDoctor(t, g, bin, root, canary, "docker") // reg.test is nowhere but behind the gate: egress is closed
		expect(t, d, fine, "held", "")
		writeFile(t, filepath.Join(root, "etc/docker/daemon.json"), `{"registry-mirrors": ["http://`+g.addr+`"]}`)
		// A registry that the node reaches by its own name.
		open := startGateHost(t, registry, registry, signedBy(public)+"\ncanary: "+registry+"/team/canary:v1")
		d, fine = runDoctor(t, open, bin, root, registry+"/team/canary:v1", "docker")
		expect(t, d, fine, "BYPASSED", "registry-mirrors do not hold")
	})
	t.Run("not a canary", func(t *testing.T) {
		out, err := run(t, binary(t), "doctor", "podman", "--gate", "http://"+g.addr, "--canary", "reg.test/team/other:v1")
		if err == nil || !strings.Contains(out, "does not refuse reg.test/team/other:v1 as its canary") {
			t.Errorf("%v\n%s", err, out)
		}
		if out, err := run(t, binary(t), "doctor", "rkt", "--gate", "http://"+g.addr, "--canary", canary); err == nil || !strings.Contains(out, `"rkt" is not known`) {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
