package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "deploy/compose.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestCompose: the file is valid by Compose's own rules, every file that it mounts
// exists, and its commands are commands of this program.
func TestCompose(t *testing.T) {
	project := loadCompose(t)
	for _, name := range []string{"gate", "registry", "postgres", "prometheus", "grafana", "images", "key", "signed", "try"} {
		if _, err := project.GetService(name); err != nil {
			t.Error(err)
		}
	}

	for _, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", s.Name, err)
			}
			if !v.ReadOnly {
				t.Errorf("%s may write %s", s.Name, v.Source)
			}
		}
		if strings.HasPrefix(s.Image, "pullgate:") && len(s.Command) > 0 {
			out, err := exec.Command(binary(t), append(s.Command, "--help")...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "pullgate "+s.Command[0]) {
				t.Errorf("%s: %v: %s", s.Name, err, out)
			}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s opens port %s to the network", s.Name, p.Published)
			}
		}
	}
}

// TestComposeGate: the gate accepts the configuration that compose mounts.
func TestComposeGate(t *testing.T) {
	gate, err := loadCompose(t).GetService("gate")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose/pullgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	writeSecret(t, filepath.Join(dir, "keys"))
	write(t, filepath.Join(dir, "database.password"), "only-for-trying-out\n")
	file := filepath.Join(dir, "pullgate.yaml")
	write(t, file, strings.ReplaceAll(string(text), "/etc/pullgate/", dir+"/"))
	check := exec.Command(binary(t), "check", "--config", file)
	check.Env = os.Environ()
	for name, value := range gate.Environment {
		check.Env = append(check.Env, name+"="+*value)
	}
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestPrometheus: promtool accepts the alerts and compose's configuration, and the
// alerts' unit tests pass.
func TestPrometheus(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing; .ci/install says how to get it")
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose/prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := filepath.Abs(filepath.Join(root, "deploy/alerts"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	write(t, config, strings.ReplaceAll(string(text), "/etc/prometheus/alerts", alerts))

	for _, args := range [][]string{
		{"check", "config", config},
		{"check", "rules", filepath.Join(root, "deploy/alerts/pullgate.yaml")},
		{"test", "rules", "testdata/alerts_test.yaml", "testdata/alerts_days_test.yaml"},
	} {
		t.Run(strings.Join(args[:2], " "), func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command("promtool", args...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "SUCCESS") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
