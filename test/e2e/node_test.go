package e2e

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// node is a machine of a test's own: this one, seen from a mount namespace with
// another /etc, /var and /run. What runs there finds the files that node-config
// has written at the very paths it has printed, and keeps its images, sockets
// and locks to itself.
type node struct {
	root string   // holds the node's etc, var, run and bin
	env  []string // besides this process's
	user string   // whose commands they are, by number; "" is root
	net  string   // file of its network namespace; "" is this machine's
	// setup is what an admin has typed on the node: shell, done anew before each
	// command, since what it writes into /etc goes with that.
	setup string
}

// The node's /etc is this machine's under the files below root/etc. Whatever a
// command writes there is gone with it; /var and /run stay for the next one.
const enter = `set -e
mount -t tmpfs tmpfs "$NODE/scratch"
mkdir "$NODE/scratch/etc" "$NODE/scratch/work"
mount -t overlay overlay -o "lowerdir=$NODE/etc:/etc,upperdir=$NODE/scratch/etc,workdir=$NODE/scratch/work" /etc
mount --bind "$NODE/var" /var
mount --bind "$NODE/run" /run
PATH=$NODE/bin:$PATH
eval "$SETUP"
exec "$@"`

// newNode is a node with the tools, each under the name after "=" if there is one:
// "ctr2=ctr" runs ctr2 where ctr is called.
func newNode(t *testing.T, env []string, tools ...string) *node {
	t.Helper()
	needRoot(t)
	need(t, "unshare")
	root, err := os.MkdirTemp("", "node") // short: a socket's path has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil { // not everybody on it is root
		t.Fatal(err)
	}
	n := &node{root: root, env: env}
	for _, dir := range []string{"etc", "var/lib", "var/tmp", "run", "bin", "scratch"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/run", root+"/var/run"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root+"/var/tmp", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for _, tool := range tools {
		tool, as, renamed := strings.Cut(tool, "=")
		need(t, tool)
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		if !renamed {
			as = filepath.Base(tool)
		}
		if err := os.Symlink(path, filepath.Join(root, "bin", as)); err != nil {
			t.Fatal(err)
		}
	}
	n.write(t, "/etc/containers/policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	return n
}

// as is the node as another user sees it.
func (n *node) as(t *testing.T, user string) *node {
	t.Helper()
	need(t, "setpriv")
	other := *n
	other.user = user
	return &other
}

func (n *node) command(args ...string) []string {
	if n.user != "" {
		args = append([]string{"setpriv", "--reuid", n.user, "--regid", n.user, "--clear-groups"}, args...)
	}
	inside := append([]string{"unshare", "--mount", "sh", "-c", enter, "sh"}, args...)
	if n.net != "" {
		return append([]string{"nsenter", "--net=" + n.net, "--"}, inside...)
	}
	return inside
}

func (n *node) environ() []string {
	return append([]string{"NODE=" + n.root, "SETUP=" + n.setup, "TMPDIR=/var/tmp"}, n.env...)
}

// run executes a command on the node and returns everything it printed.
func (n *node) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := n.command(args...)
	return runWith(t, n.environ(), c[0], c[1:]...)
}

// start runs a daemon on the node until the test ends, and waits for its socket.
func (n *node) start(t *testing.T, socket string, args ...string) {
	t.Helper()
	c := n.command(args...)
	waitFile(t, start(t, n.environ(), c[0], c[1:]...), n.root+socket)
}

func (n *node) write(t *testing.T, path, text string) {
	t.Helper()
	writeFile(t, n.root+path, text)
}

// configure writes what node-config prints, and returns what it printed.
func (n *node) configure(t *testing.T, args ...string) string {
	t.Helper()
	printed := mustRun(t, binary(t), append(append([]string{"node-config"}, args...), "--write", n.root)...)
	for _, command := range trustCommand.FindAllStringSubmatch(printed, -1) {
		n.setup += command[1] + "\n"
	}
	return printed
}

// trustCommand is what node-config prints for runtimes that find a certificate
// authority, or the node's own certificate, by its place.
var trustCommand = regexp.MustCompile(`(?m)^note: .* (?:trust|show the certificate to) the gate: (.+)$`)

// landed reports whether any part of an image, by its hexadecimal digests, is
// in a store of the node.
func (n *node) landed(t *testing.T, parts []string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(n.root+"/var", func(path string, d fs.DirEntry, err error) error {
		if err != nil || found {
			return nil // a store at work: files come and go
		}
		for _, hex := range parts {
			found = found || strings.Contains(d.Name(), hex)
		}
		if info, err := d.Info(); err == nil && strings.HasSuffix(path, ".json") && info.Size() < 1<<20 {
			text, err := os.ReadFile(path)
			for _, hex := range parts {
				found = found || err == nil && bytes.Contains(text, []byte(hex))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

type diagnosis struct {
	Runtime, Outcome, Says, Command, Output string
	Advice                                  []string
}

// doctor examines one runtime of the node.
func (n *node) doctor(t *testing.T, canary, runtime string, gate ...string) (d diagnosis, exit int) {
	t.Helper()
	args := append([]string{
		binary(t),
		"doctor",
		runtime,
		"--canary",
		canary,
		"--json",
		"--textfile",
		"/var/tmp/doctor.prom",
	}, gate...)
	out, err := n.run(t, args...)
	var found []diagnosis
	text, _, _ := strings.Cut(out, "pullgate:")
	if jerr := json.Unmarshal([]byte(text), &found); jerr != nil || len(found) != 1 {
		t.Fatalf("doctor says %v\n%s", err, out)
	}
	metrics, rerr := os.ReadFile(n.root + "/var/tmp/doctor.prom")
	want := `pullgate_doctor_held{runtime="` + runtime + `",outcome="held"} 1`
	if rerr != nil || strings.Contains(string(metrics), want) != (found[0].Outcome == "held") {
		t.Errorf("the textfile does not agree: %v\n%s", rerr, metrics)
	}
	return found[0], exitCode(t, err)
}

// expect compares what doctor found with an outcome and, if advice is not "", with
// what it says of the configuration.
func (d diagnosis) expect(t *testing.T, exit int, outcome, advice string) {
	t.Helper()
	if want := map[string]int{
		"held":      0,
		"BYPASSED":  1,
		"NOT ASKED": 1,
		"UNKNOWN":   2,
	}[outcome]; d.Outcome != outcome || exit != want {
		t.Errorf(
			"doctor %s: %s, exit %d; want %s, %d: %s\n%s\n%s",
			d.Runtime,
			d.Outcome,
			exit,
			outcome,
			want,
			d.Says,
			d.Command,
			d.Output,
		)
	}
	if all := strings.Join(d.Advice, "\n"); advice == "" != (all == "") || !strings.Contains(all, advice) {
		t.Errorf("doctor %s: the configuration is said to have %q, want %q", d.Runtime, all, advice)
	}
}
