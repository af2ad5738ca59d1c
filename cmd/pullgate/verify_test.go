package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/test/rig"
)

// TestVerify: what verify needs to be told, and what it says, is what its user knows
// of: no file that it has made for itself, and no name with nothing behind it.
func TestVerify(t *testing.T) {
	addr, public := rig.Registry(t)
	dir := t.TempDir()
	t.Chdir(dir)
	rig.Write(t, dir, "key.pub", public)
	rig.Write(t, dir, "text", "no key\n")

	t.Run("no configuration", func(t *testing.T) {
		code, out := commandExit(t, "verify", addr+"/signed")
		if code != exit.CouldNotTell || !strings.Contains(out, "give --config FILE or --key FILE") {
			t.Errorf("exit %d: %s", code, out)
		}
	})

	rig.Write(t, dir, "pullgate.yaml", "upstreams: [{host: \""+addr+"\", url: \"http://"+addr+"\"}]\npolicies:\n"+
		"  - {name: never, images: [\""+addr+"/unsigned\"], static: deny}\n"+
		"  - {name: keyed, images: [\""+addr+"/**\"], authorities: [{key: key.pub}]}\n")
	for _, row := range []struct {
		name string
		args []string
		exit int
		want string
	}{
		{"configuration beside", []string{addr + "/signed"}, 0, `allowed by policy "keyed" (pullgate.yaml:4)`},
		{"denied unasked", []string{addr + "/unsigned"}, exit.Denied, addr + "/unsigned:latest\n  denied by"},
		{"http by key", []string{addr + "/signed", "--key", "key.pub"}, 0, "allowed by policy \"--key\"\n"},
		{"http by key, refused", []string{addr + "/unsigned", "--key", "key.pub"}, exit.Denied, "no signature found"},
		{"missing key", []string{addr + "/signed", "--key", "none"}, exit.CouldNotTell, "--key none: cannot read"},
		{"no key", []string{addr + "/signed", "--key", "text"}, exit.CouldNotTell, "is not a PEM public key"},
		{"both", []string{addr + "/signed", "--key", "key.pub", "-c", "pullgate.yaml"}, exit.CouldNotTell, "not both"},
		{"scheme", []string{"http://" + addr + "/signed"}, exit.CouldNotTell, `leave out "http://"`},
		{
			"scheme by key",
			[]string{"https://" + addr + "/x", "--key", "key.pub"},
			exit.CouldNotTell,
			`leave out "https://"`,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			code, out := commandExit(t, append([]string{"verify"}, row.args...)...)
			if code != row.exit || !strings.Contains(out, row.want) {
				t.Errorf("exit %d, want %d and %q:\n%s", code, row.exit, row.want, out)
			}
			for _, inner := range []string{
				filepath.Join(os.TempDir(), "pullgate-verify"),
				"@\n",
				"name.Insecure",
				"--key\": auth",
			} {
				if strings.Contains(out, inner) {
					t.Errorf("it says %q:\n%s", inner, out)
				}
			}
		})
	}

	t.Run("sign with a scheme", func(t *testing.T) {
		t.Setenv("COSIGN_PASSWORD", "x")
		if code, out := commandExit(t, "generate-key-pair"); code != 0 {
			t.Fatal(out)
		}
		code, out := commandExit(t, "sign", "http://"+addr+"/signed")
		if code != exit.CouldNotTell || !strings.Contains(out, `leave out "http://"`) {
			t.Errorf("exit %d: %s", code, out)
		}
	})
}
