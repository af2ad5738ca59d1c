package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// TestNamesThroughGate: a name as it is pulled through the gate is understood by
// every command that takes an image.
func TestNamesThroughGate(t *testing.T) {
	addr, public := rig.Registry(t)
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", public)
		base := strings.ReplaceAll(r.Base(), "demo.example", addr)
		return strings.Replace(base, "REGISTRY", addr, 1) +
			fmt.Sprintf("policies: [{name: keyed, images: [%q], authorities: [{name: k, key: key.pub}]}]\n", addr+"/**")
	})
	config, key := filepath.Join(r.Dir, "pullgate.yaml"), filepath.Join(r.Dir, "key.pub")
	signed, unsigned := r.Gate+"/"+addr+"/signed:latest", r.Gate+"/"+addr+"/unsigned:latest"
	cases := rig.Write(t, r.Dir, "cases.yaml", fmt.Sprintf("cases: [{image: %q, outcome: allowed}]\n", signed))
	t.Setenv("COSIGN_PASSWORD", "x")
	pair := filepath.Join(r.Dir, "pair")
	if code, out := commandExit(t, "generate-key-pair", "-o", pair); code != 0 {
		t.Fatal(out)
	}

	for _, row := range []struct {
		name string
		args []string
		exit int
		want string
	}{
		{"warm", []string{"warm", signed, "-c", config}, 0, "admitted"},
		{"warm, refused", []string{"warm", unsigned, "-c", config}, exit.Denied, "no signature found"},
		{"verify", []string{"verify", signed, "-c", config}, 0, addr + "/signed@sha256:"},
		{"verify, refused", []string{"verify", unsigned, "-c", config}, exit.Denied, "no signature found"},
		{"verify by key", []string{"verify", unsigned, "--key", key, "--plain-http"}, exit.Denied, addr + "/unsigned@"},
		{"test", []string{"test", cases, "-c", config}, 0, "1 as expected"},
		{"sign", []string{"sign", unsigned, "--key", pair + ".key"}, 0, "signed " + addr + "/unsigned@"},
	} {
		t.Run(row.name, func(t *testing.T) {
			code, out := commandExit(t, row.args...)
			if code != row.exit || !strings.Contains(out, row.want) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, row.exit, row.want, out)
			}
		})
	}
}

// TestNamesThroughGateWithoutPort is the same for a registry whose name holds no
// port, where the whole name is one that a registry could have.
func TestNamesThroughGateWithoutPort(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string { return r.Keyed(t) })
	config := filepath.Join(r.Dir, "pullgate.yaml")
	for _, row := range []struct {
		name string
		args []string
		exit int
		want string
	}{
		{"warm", []string{"warm", r.Gate + "/demo.example/signed", "-c", config}, 0, "admitted"},
		{"verify", []string{"verify", r.Gate + "/demo.example/signed", "-c", config}, 0, "demo.example/signed@sha256:"},
		{
			"explain",
			[]string{"explain", r.Gate + "/demo.example/signed", "-c", config},
			0,
			"demo.example/signed@sha256:",
		},
		{
			"explain, admin",
			[]string{"explain", r.Gate + "/demo.example/signed", "--admin", "http://" + r.Admin},
			0,
			"demo.example/signed@sha256:",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.name == "explain" {
				recorded(t, r, decisionOf(t, r, "signed/manifests/latest"))
			}
			code, out := commandExit(t, row.args...)
			if code != row.exit || !strings.Contains(out, row.want) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, row.exit, row.want, out)
			}
		})
	}

	// Commands without a configuration ask whether there is a gate.
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetErr(io.Discard)
	for name, want := range map[string]string{
		r.Gate + "/demo.example/unsigned": "demo.example/unsigned:latest",
		r.Gate + "/demo.example":          r.Gate + "/demo.example",
		"127.0.0.1:1/demo.example/signed": "127.0.0.1:1/demo.example/signed",
	} {
		if got, err := pastGate(cmd, name); err != nil || got != want {
			t.Errorf("%s is asked for as %s, %v; want %s", name, got, err, want)
		}
	}
}
