package e2e

import (
	"strings"
	"testing"
)

// TestDoctorNotAsked: a pull that fails somewhere else is no proof of anything.
func TestDoctorNotAsked(t *testing.T) {
	s := newShelf(t)
	g := s.gate(t)
	n := newNode(t, closed(), "podman")
	n.configure(t, "podman", "--gate", "http://127.0.0.1:"+freePort(t))
	d, exit := n.doctor(t, shelfCanary, "podman", "--gate", "http://"+g.addr)
	d.expect(t, exit, "NOT ASKED", "does not send docker.io to the gate")
}

// TestDoctorUnderWarn: the canary is refused whatever mode the gate is in.
func TestDoctorUnderWarn(t *testing.T) {
	s := newShelf(t)
	g := startGateHosts(t, shelfHosts, s.registry, signedBy(s.public)+"\n    mode: warn\ncanary: "+shelfCanary)
	n := newNode(t, closed(), "podman")
	n.configure(t, "podman", "--gate", "http://"+g.addr)
	d, exit := n.doctor(t, shelfCanary, "podman", "--gate", "http://"+g.addr)
	d.expect(t, exit, "held", "")
}

// TestDoctorCannotTell: what keeps doctor from finding out has a name, and is
// not mistaken for a pull that was refused.
func TestDoctorCannotTell(t *testing.T) {
	s := newShelf(t)
	g := s.gate(t)
	t.Run("no such runtime here", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		for _, args := range [][]string{{"podman"}, {"containerd"}, {"buildkit"}, nil} {
			out, err := run(t, binary(t), append([]string{
				"doctor",
				"--gate",
				"http://" + g.addr,
				"--canary",
				shelfCanary,
			}, args...)...)
			want := "no runtime was found: name one"
			if len(args) > 0 {
				want = "is not on this node's PATH: run doctor where " + args[0] + " is"
			}
			if exitCode(t, err) != 2 || !strings.Contains(out, want) {
				t.Errorf("doctor %v: %v; want exit 2 and %q:\n%s", args, err, want, out)
			}
		}
	})
	t.Run("daemon down", func(t *testing.T) {
		for runtime, tool := range map[string]string{
			"docker":     "/usr/bin/docker",
			"containerd": "/usr/bin/ctr",
			"buildkit":   "buildctl",
		} {
			n := newNode(t, closed(), tool)
			d, exit := n.doctor(t, shelfCanary, runtime, "--gate", "http://"+g.addr)
			if exit != 2 || d.Outcome != "UNKNOWN" || !strings.Contains(d.Says, "its daemon does not run") {
				t.Errorf("%s: exit %d, %s: %s\n%s", runtime, exit, d.Outcome, d.Says, d.Output)
			}
		}
	})
	t.Run("no rights", func(t *testing.T) {
		n := newNode(t, closed(), append([]string{"/usr/sbin/dockerd", "/usr/bin/docker"}, containerd16...)...)
		n.write(t, "/etc/containerd/config.toml", "version = 2\n")
		n.start(t, "/run/containerd/containerd.sock", "containerd")
		startNodeDocker("--storage-driver", "vfs")(t, n, "")
		for _, runtime := range []string{"docker", "containerd"} {
			d, exit := n.as(t, "65534").doctor(t, shelfCanary, runtime, "--gate", "http://"+g.addr)
			if exit != 2 || d.Outcome != "UNKNOWN" || !strings.Contains(d.Says, "run doctor as root") {
				t.Errorf("%s: exit %d, %s: %s\n%s", runtime, exit, d.Outcome, d.Says, d.Output)
			}
		}
	})
	t.Run("no canary", func(t *testing.T) {
		for _, row := range []struct {
			args []string
			exit int
			want string
		}{
			{
				[]string{"podman", "--gate", "http://" + g.addr, "--canary", "docker.io/team/signed:v1"},
				2,
				"does not refuse docker.io/team/signed:v1 as its canary",
			},
			{
				[]string{"podman", "--gate", "http://127.0.0.1:" + freePort(t), "--canary", shelfCanary},
				2,
				"connection refused",
			},
			{
				[]string{"rkt", "--gate", "http://" + g.addr, "--canary", shelfCanary},
				2,
				`"rkt" is not known; doctor knows`,
			},
			{[]string{"podman"}, 2, "give --gate and --canary, or --config"},
			{[]string{"podman", "--gate", g.addr, "--canary", shelfCanary}, 2, "write http://127.0.0.1:5000"},
		} {
			out, err := run(t, binary(t), append([]string{"doctor"}, row.args...)...)
			if exitCode(t, err) != row.exit || !strings.Contains(out, row.want) {
				t.Errorf("%v: %v, want exit %d and %q:\n%s", row.args, err, row.exit, row.want, out)
			}
		}
	})
}
