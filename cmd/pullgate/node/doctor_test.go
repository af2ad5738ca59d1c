package node

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/policy"
)

// newDoctor returns a doctor of a gate that refuses the canary and counts: by the
// doctor's own tags, and else by the address, which all have here.
func newDoctor(t *testing.T) *Doctor {
	t.Helper()
	var mu sync.Mutex
	asked := map[string]int{}
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		key := path.Base(r.URL.Path)
		if !strings.HasPrefix(key, policy.CanaryNonce) {
			key = ""
		}
		asked[key]++
		w.Header().Set("Pullgate-Canary", strconv.Itoa(asked[key]))
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(gate.Close)

	d := &Doctor{Gate: gate.URL, Canary: "reg.example/canary:v1", Root: t.TempDir(), Timeout: 10 * time.Second}
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	if err := d.CheckGate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// shell returns a runtime whose pull is a script of the shell.
func shell(script string) Runtime {
	return Runtime{
		name:    "shell",
		command: "sh",
		pull:    func(_ *Doctor, image, _ string) []string { return []string{"-c", script, "sh", image} },
	}
}

// asking returns a runtime whose pulls fail, while the gate is asked for what
// instead says.
func asking(t *testing.T, instead func(image policy.Image) policy.Image) Runtime {
	t.Helper()
	r := shell("exit 1")
	pull := r.pull
	r.pull = func(d *Doctor, name, scratch string) []string {
		image, err := imagename.Parse(name)
		if err != nil {
			t.Error(err)
		}
		if _, err := d.timesAsked(t.Context(), instead(image)); err != nil {
			t.Error(err)
		}
		return pull(d, name, scratch)
	}
	return r
}

// TestExamine: what each behaviour of a runtime comes to.
func TestExamine(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		script string
		byName bool
		want   Outcome
	}{
		"pulled":         {script: "exit 0", want: Bypassed},
		"not asked":      {script: "echo GET /v2/; exit 1", want: NotAsked},
		"no daemon":      {script: "echo Cannot connect to the daemon; exit 1", want: Unknown},
		"another's name": {script: `case "$1" in 127*) exit 0;; esac; exit 1`, byName: true, want: Bypassed},
		"neither name":   {script: "exit 1", byName: true, want: NotAsked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := shell(row.script)
			r.byName = row.byName
			f := newDoctor(t).Examine(t.Context(), r)
			if f.Outcome != row.want || f.Says == "" || f.Command == "" {
				t.Errorf("%+v", f)
			}
		})
	}

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		d := newDoctor(t)
		r := asking(t, func(image policy.Image) policy.Image { return image })
		if f := d.Examine(t.Context(), r); f.Outcome != Held {
			t.Errorf("%+v", f)
		}
	})
	t.Run("another node's", func(t *testing.T) { // behind the same address
		t.Parallel()
		d := newDoctor(t)
		canary, other := d.image, d.nonce()
		for _, image := range []policy.Image{canary, other} {
			r := asking(t, func(policy.Image) policy.Image { return image })
			if f := d.Examine(t.Context(), r); f.Outcome != NotAsked {
				t.Errorf("%s: %+v", image, f)
			}
		}
	})
	t.Run("by name alone", func(t *testing.T) {
		t.Parallel()
		d := newDoctor(t)
		r := asking(t, func(image policy.Image) policy.Image {
			if strings.HasPrefix(image.Host, "127") {
				image.Host, image.Path = "reg.example", "canary"
				return image
			}
			return d.image
		})
		r.byName = true
		if f := d.Examine(t.Context(), r); f.Outcome != Held {
			t.Errorf("%+v", f)
		}
	})
	t.Run("no command", func(t *testing.T) {
		t.Parallel()
		f := newDoctor(t).Examine(t.Context(), Runtime{name: "none", command: "pullgate-no-such-command"})
		if f.Outcome != Unknown || !strings.Contains(f.Says, "is not on this node's PATH") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("endless", func(t *testing.T) {
		t.Parallel()
		d := newDoctor(t)
		d.Timeout = 50 * time.Millisecond
		f := d.Examine(t.Context(), shell("exec sleep 60"))
		if f.Outcome != Unknown || !strings.Contains(f.Says, "--timeout") {
			t.Errorf("%+v", f)
		}
	})
}

// TestOpenGate: a gate that does not refuse the canary ends the examination.
func TestOpenGate(t *testing.T) {
	t.Parallel()
	open := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer open.Close()
	d := &Doctor{Gate: open.URL, Canary: "reg.example/canary:v1"}
	if err := d.Check(); err != nil {
		t.Fatal(err)
	}
	if err := d.CheckGate(t.Context()); err == nil || !strings.Contains(err.Error(), "does not refuse") {
		t.Errorf("%v", err)
	}
}

// TestLint: what is said about each configuration that does not hold, and nothing
// about those that do.
func TestLint(t *testing.T) {
	t.Parallel()
	const gate = "http://gate.example:5000"
	for name, row := range map[string]struct {
		lint func(d *Doctor) []string
		file string
		text string
		want []string // parts of each advice, in order
	}{
		"containerd holds": {
			lint: lintContainerd,
			file: "/etc/containerd/certs.d/reg.example/hosts.toml",
			text: "server = \"" + gate + "\"\n[host.\"" + gate + "\"]\n",
		},
		"containerd default": {
			lint: lintContainerd,
			file: "/etc/containerd/certs.d/_default/hosts.toml",
			text: "server = \"" + gate + "/\"\n[host.\"" + gate + "\"]\n",
		},
		"containerd without a file": {lint: lintContainerd, want: []string{"no hosts.toml"}},
		"containerd without a server": {
			lint: lintContainerd,
			file: "/etc/containerd/certs.d/reg.example/hosts.toml",
			text: "[host.\"https://other.example\"]\n",
			want: []string{"has no server", "has no [host.", "also names https://other.example"},
		},
		"containerd with another server": {
			lint: lintContainerd,
			file: "/etc/containerd/certs.d/reg.example/hosts.toml",
			text: "server = \"https://reg.example\"\n[host.\"" + gate + "\"]\n",
			want: []string{"has server https://reg.example"},
		},
		"containerd malformed": {
			lint: lintContainerd,
			file: "/etc/containerd/certs.d/reg.example/hosts.toml",
			text: "server",
			want: []string{"is not valid TOML"},
		},
		"docker untouched": {lint: lintDocker},
		"docker mirror": {
			lint: lintDocker,
			file: "/etc/docker/daemon.json",
			text: `{"registry-mirrors": ["` + gate + `"]}`,
			want: []string{"registry-mirrors do not hold"},
		},
		"docker malformed": {
			lint: lintDocker,
			file: "/etc/docker/daemon.json",
			text: "{",
			want: []string{"is not valid JSON"},
		},
		"podman holds": {
			lint: lintContainersImage,
			file: "/etc/containers/registries.conf.d/900-pullgate.conf",
			text: "[[registry]]\nprefix = \"reg.example\"\nlocation = \"gate.example:5000/reg.example\"\n",
		},
		"podman mirror": {
			lint: lintContainersImage,
			file: "/etc/containers/registries.conf",
			text: "[[registry]]\nlocation = \"reg.example\"\n[[registry.mirror]]\nlocation = \"gate.example:5000\"\n",
			want: []string{"a mirror", "does not send reg.example to the gate"},
		},
		"podman malformed": {
			lint: lintContainersImage,
			file: "/etc/containers/registries.conf",
			text: "[[",
			want: []string{"is not valid TOML", "does not send"},
		},
		"buildkit untouched": {lint: lintBuildkit},
		"buildkit mirror": {
			lint: lintBuildkit,
			file: "/etc/buildkit/buildkitd.toml",
			text: "[registry.\"reg.example\"]\nmirrors = [\"gate.example:5000\"]\n",
			want: []string{"mirrors do not hold"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &Doctor{Gate: gate, Canary: "reg.example/canary:v1", Root: t.TempDir()}
			if err := d.Check(); err != nil {
				t.Fatal(err)
			}
			if row.file != "" {
				if err := os.MkdirAll(filepath.Dir(d.file(row.file)), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(d.file(row.file), []byte(row.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}

			got := row.lint(d)
			if len(got) != len(row.want) {
				t.Fatalf("%q, want %d", got, len(row.want))
			}
			for i, want := range row.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("%q does not say %q", got[i], want)
				}
			}
		})
	}
}

// TestWriteMetrics: a runtime that is not held is a zero, whatever the reason.
func TestWriteMetrics(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pullgate.prom")
	found := []Finding{{Runtime: "podman", Outcome: Held}, {Runtime: "docker", Outcome: NotAsked}}
	if err := WriteMetrics(file, found, time.Unix(7, 0)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`pullgate_doctor_held{runtime="podman",outcome="held"} 1`,
		`pullgate_doctor_held{runtime="docker",outcome="not_asked"} 0`,
		"pullgate_doctor_run_timestamp_seconds 7",
	} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
}

// TestGateLogin: doctor shows a gate the name it is told to, and prints no password.
func TestGateLogin(t *testing.T) {
	t.Parallel()
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ci" || password != "s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Pullgate-Canary", "1")
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(gate.Close)
	for login, want := range map[string]string{"ci:s3cret@": "", "ci:other@": "wants to know who asks", "": "wants to"} {
		d := &Doctor{Gate: strings.Replace(gate.URL, "http://", "http://"+login, 1), Canary: "reg.example/canary:v1"}
		if err := d.Check(); err != nil {
			t.Fatal(err)
		}
		err := d.CheckGate(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", login, err)
		}
		if strings.Contains(d.Gate, "@") || err != nil && strings.Contains(err.Error(), "other") {
			t.Errorf("the password is shown: %s, %v", d.Gate, err)
		}
	}

	d := &Doctor{Gate: "ci:s3cret@gate", Canary: "reg.example/canary:v1"}
	if err := d.Check(); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v", err)
	}
	d = &Doctor{Gate: gate.URL, Canary: "reg.example/canary:v1", Cert: "none.crt", Key: "none.key"}
	if err := d.Check(); err == nil || !strings.Contains(err.Error(), "--cert, --key: open none.crt") {
		t.Errorf("%v", err)
	}
}
