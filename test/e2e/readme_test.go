package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// alone says that this process has a network of its own, and its ports are free.
const alone = "E2E_ALONE"

// TestReadme follows the README's "From nothing to a refused pull" to the letter:
// its commands in their order, its files under their names. ghcr.io is a registry
// on loopback; the name, https and the ports are the README's. It has two minutes,
// as every command of these tests.
func TestReadme(t *testing.T) {
	needRoot(t)
	need(t, "unshare", "ip", "bash", "podman", "distribution")
	if os.Getenv(alone) == "" {
		out, err := runWith(
			t,
			[]string{alone + "=1"},
			"unshare",
			"--net",
			"sh",
			"-c",
			`ip link set lo up && exec "$@"`,
			"sh",
			os.Args[0],
			"-test.run=^TestReadme$",
			"-test.v",
		)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	registry := startDistribution(t)
	pushIndex(t, registry+"/acme/app:v1", 1000)
	pushIndex(t, registry+"/acme/other:v1", 1000)
	checkout := t.TempDir()
	for _, part := range []string{"cmd", "policy", "proxy", "verify"} {
		if err := os.CopyFS(filepath.Join(checkout, part), os.DirFS("../../"+part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile("../../" + part)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(checkout, part), string(text))
	}
	script, refusals := quickStart(t, checkout)
	around := startInternet(t, registry)
	n := newNode(t, append(around.env, "COSIGN_PASSWORD=typed by hand"), "podman")
	n.env = append(n.env, "GOBIN="+n.root+"/bin")
	out, err := n.run(t, "bash", "-c", script)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	for _, want := range refusals {
		if !strings.Contains(out, want) {
			t.Errorf("the README shows %q, which is not printed:\n%s", want, out)
		}
	}
}

// quickStart writes the section's files into dir and makes its commands a
// script. A command whose comment begins with "refused:" has to fail, and to
// print what the comment has after "…".
func quickStart(t *testing.T, dir string) (script string, refusals []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## From nothing to a refused pull\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split("\n"+section, "\n```")
	if !found || len(blocks)%2 == 0 {
		t.Fatal("the README has no such section, or a block without an end")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "set -eu\ncd %s\ntrap 'kill $(jobs -p)' EXIT\n", dir)
	for i := 1; i < len(blocks); i += 2 {
		kind, body, _ := strings.Cut(blocks[i], "\n")
		if kind != "" {
			name, _, _ := strings.Cut(body, "\n")
			writeFile(t, filepath.Join(dir, strings.TrimPrefix(name, "# ")), body+"\n")
			continue
		}
		for line := range strings.Lines(body) {
			command, comment, _ := strings.Cut(line, " # ")
			command, comment = strings.TrimSpace(command), strings.TrimSpace(comment)
			switch {
			case strings.HasPrefix(comment, "refused:"):
				_, says, _ := strings.Cut(comment, "… ")
				refusals = append(refusals, says)
				fmt.Fprintf(&b, "if %s; then echo 'this is not refused'; exit 1; fi\n", command)
			case strings.HasSuffix(command, "&"): // whoever types is slower than the gate
				fmt.Fprintf(
					&b,
					"%s\nfor _ in $(seq 100); do (: </dev/tcp/127.0.0.1/5000) 2>/dev/null && break; sleep 0.1; done\n",
					command,
				)
			default:
				fmt.Fprintln(&b, command)
			}
		}
	}
	if len(refusals) == 0 {
		t.Fatal("the section shows no refused pull")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal(err)
	}
	return b.String(), refusals
}
