package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// gateUser is whom the redirect leaves alone; no one here has the number.
const gateUser = 48321

// network is a network namespace of a test's own, with loopback and the address at
// which the registries are.
type network struct{ file string }

func newNetwork(t *testing.T) *network {
	t.Helper()
	needRoot(t)
	for _, tool := range []string{"ip", "nft", "nsenter", "setpriv"} {
		need(t, tool)
	}
	name := "pullgate-" + strconv.Itoa(os.Getpid()) + "-" + freePort(t)
	mustRun(t, "ip", "netns", "add", name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", name).Run() })
	w := &network{file: "/run/netns/" + name}
	w.run(t, "ip", "link", "set", "lo", "up")
	return w
}

func (w *network) run(t *testing.T, args ...string) {
	t.Helper()
	mustRun(t, "nsenter", append([]string{"--net=" + w.file, "--"}, args...)...)
}

// listen opens a port there, which this process serves.
func (w *network) listen(t *testing.T, address string) net.Listener {
	t.Helper()
	type opened struct {
		l   net.Listener
		err error
	}
	result := make(chan opened)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		there, err := os.Open(w.file)
		if err == nil {
			err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET)
			_ = there.Close()
		}
		if err != nil {
			result <- opened{nil, err}
			return
		}
		l, err := net.Listen("tcp", address)
		result <- opened{l, err}
	}()
	got := <-result
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.l
}

// up starts the gate there, as the user whose traffic is its own.
func (w *network) up(t *testing.T, g *interceptingGate) {
	t.Helper()
	program := filepath.Join(g.dir, "pullgate")
	if _, err := os.Stat(program); err != nil {
		if err := os.Link(binary(t), program); err != nil {
			mustRun(t, "cp", binary(t), program)
		}
		user := strconv.Itoa(gateUser)
		mustRun(t, "chown", "-R", user+":"+user, g.dir)
	}
	user := strconv.Itoa(gateUser)
	g.process = start(t, []string{"PULLGATE_LIMITS_CLIENTMISSES=1000000"}, "nsenter", "--net="+w.file, "--",
		"setpriv", "--reuid", user, "--regid", user, "--clear-groups", program, "serve", "--config", g.config)
}

// TestRedirected: with nothing changed on a node but the rules that node-config
// prints for nftables, its pulls come to the gate.
func TestRedirected(t *testing.T) {
	s := newShelf(t)
	for _, k := range interceptedRuntimes() {
		t.Run(k.name, func(t *testing.T) {
			w := newNetwork(t)
			around := startInternet(t, s.registry)
			inside := w.listen(t, "127.0.0.1:0")
			forward(t, inside, s.registry, func() {})
			g := newIntercepting(t, s, inside.Addr().String())
			n := newNode(t, nil, k.tools...)
			n.net = w.file
			around.openWay(t, n, w.listen(t, directAddress+":443"))
			n.configure(t, "nftables", "--intercept", "--gate", "http://"+g.proxy, "--ca", "/etc/pullgate/ca.crt",
				"--address", directAddress, "--tls-port", g.tls, "--gate-user", strconv.Itoa(gateUser))
			w.run(t, "nft", "-f", n.root+"/etc/nftables.d/pullgate.nft")

			again := func(t *testing.T) {
				w.up(t, g)
				w.wait(t, g)
			}
			again(t)
			testIntercepted(t, s, k, interception{around: around, gate: g, node: n, again: again})
		})
	}
}

// wait asks the gate's admin port until it is ready.
func (w *network) wait(t *testing.T, g *interceptingGate) {
	t.Helper()
	mustRun(t, "nsenter", "--net="+w.file, "--", "sh", "-c",
		`for i in $(seq 600); do curl -sf "http://`+g.admin+`/readyz" >/dev/null && exit 0; sleep 0.1; done; exit 1`)
}
