package e2e

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// interceptedHosts are the names by which runtimes ask for the shelf's images, and
// at this address the registry itself answers to them.
const (
	interceptedHosts = "docker.io registry-1.docker.io index.docker.io reg.test"
	directAddress    = "127.0.0.9"
)

// openWay lets the node reach the registry by its names, without any proxy: l
// listens at directAddress where the node is.
func (i *internet) openWay(t *testing.T, n *node, l net.Listener) {
	t.Helper()
	forward(t, l, i.hosts, func() { i.asked.Add(1) })
	n.write(t, "/etc/hosts", "127.0.0.1 localhost\n"+directAddress+" "+interceptedHosts+"\n")
}

// forward joins every connection of l with one to an address of this machine.
func forward(t *testing.T, l net.Listener, to string, seen func()) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			seen()
			go func() {
				defer near.Close()
				far, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near) }()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
}

func listenAt(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// interceptingGate is one of the shelf's images that runtimes have for their proxy.
type interceptingGate struct {
	*gate
	dir, proxy, ca string
	tls            string // port
}

func newIntercepting(t *testing.T, s *shelf, registry string) *interceptingGate {
	t.Helper()
	dir, err := os.MkdirTemp("", "intercepting")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	g := &interceptingGate{
		gate:  &gate{addr: "127.0.0.1:" + freePort(t), admin: "127.0.0.1:" + freePort(t)},
		dir:   dir,
		proxy: "127.0.0.1:" + freePort(t),
		tls:   freePort(t),
		ca:    filepath.Join(dir, "ca.crt"),
	}
	writeFile(t, filepath.Join(dir, "cosign.pub"), readFile(t, s.public))
	g.config = writeFile(t, filepath.Join(dir, "pullgate.yaml"), `
listen: `+g.addr+`
admin: {listen: "`+g.admin+`"}
log: {format: json}
drain: 5s
upstreams: [{host: docker.io, url: "http://`+registry+`"}, {host: reg.test, url: "http://`+registry+`"}]
intercept: {listen: "`+g.proxy+`", tlsListen: "127.0.0.1:`+g.tls+`", caCertFile: ca.crt, caKeyFile: ca.key}
policies:
  - name: signed
    images: ["docker.io/**", "reg.test/**"]
    authorities: [{key: cosign.pub}]
`)
	mustRun(t, binary(t), "ca", "--config", g.config, "--cert", g.ca, "--key", filepath.Join(dir, "ca.key"))
	return g
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var environmentLines = regexp.MustCompile(`(?m)^Environment="(.+)"$`)

// interceptedRuntimes are those that pull by an image's own name.
func interceptedRuntimes() []kept {
	var list []kept
	for _, k := range allKept {
		if !strings.Contains(k.name, "hosts.toml") && !strings.Contains(k.name, "source policy") {
			list = append(list, k)
		}
	}
	return list
}

// TestIntercepted: with the gate for its proxy, each runtime pulls images by the
// names they have: an admitted one arrives, a refused one ends, and a gate that is
// down ends all, although the registry itself can be reached.
func TestIntercepted(t *testing.T) {
	needRoot(t)
	s := newShelf(t)
	for _, k := range interceptedRuntimes() {
		t.Run(k.name, func(t *testing.T) {
			around := startInternet(t, s.registry)
			g := newIntercepting(t, s, s.registry)
			g.up(t)
			n := newNode(t, nil, k.tools...)
			around.openWay(t, n, listenAt(t, directAddress+":443"))

			printed := n.configure(
				t,
				k.config[0],
				"--intercept",
				"--gate",
				"http://"+g.proxy,
				"--ca",
				"/etc/pullgate/ca.crt",
			)
			for _, found := range environmentLines.FindAllStringSubmatch(printed, -1) {
				n.env = append(n.env, found[1])
			}
			if k.name == "skopeo" || k.name == "buildah" { // as the notes say
				n.env = append(n.env, "HTTPS_PROXY=http://"+g.proxy)
			}
			testIntercepted(t, s, k, interception{around: around, gate: g, node: n, again: g.up})
		})
	}
}

// interception is one way in which a node's requests come to the gate.
type interception struct {
	around *internet
	gate   *interceptingGate
	node   *node
	again  func(*testing.T) // starts the gate again
}

func testIntercepted(t *testing.T, s *shelf, k kept, i interception) {
	t.Helper()
	n, g := i.node, i.gate
	ca := readFile(t, g.ca)
	n.write(t, "/etc/pullgate/ca.crt", ca)
	n.env = append(n.env, "SSL_CERT_FILE="+
		writeFile(t, filepath.Join(t.TempDir(), "both.pem"), readFile(t, i.around.roots)+ca))
	named := append([]string{"node-config"}, append(k.config, "--gate", "http://"+g.addr)...)
	k.start(t, n, mustRun(t, binary(t), named...))
	arrives := func(host, image string) (string, bool) {
		out, err := n.run(t, k.pull(host+"/"+image)...)
		return out, err == nil && n.landed(t, s.parts[image])
	}

	for _, host := range shelfHosts {
		out, _ := arrives(host, "team/unsigned:v1")
		if n.landed(t, s.parts["team/unsigned:v1"]) {
			t.Errorf("%s: an image that is not signed arrives:\n%s", host, out)
		}
		if !g.willDecide("denied", host+"/team/unsigned") {
			t.Errorf("%s: the pull failed, and not at the gate:\n%s", host, out)
		}
		if out, ok := arrives(host, "team/signed:v1"); !ok {
			t.Errorf("%s: an admitted image does not arrive:\n%s", host, out)
		}
	}

	g.stop(t, syscall.SIGTERM)
	if out, ok := arrives("docker.io", "team/later:v1"); ok || n.landed(t, s.parts["team/later:v1"]) {
		t.Errorf("an image arrives while the gate is down:\n%s", out)
	}
	i.again(t)
	if out, ok := arrives("docker.io", "team/later:v1"); !ok {
		t.Errorf("the gate is up again, and the image does not arrive:\n%s", out)
	}
	if asked := i.around.asked.Load(); asked > 0 {
		t.Errorf("%d connections went around the gate", asked)
	}
}

// TestOpenWay: without the proxy the node of TestIntercepted does reach the
// registry, or that test would show nothing.
func TestOpenWay(t *testing.T) {
	needRoot(t)
	s := newShelf(t)
	around := startInternet(t, s.registry)
	n := newNode(t, []string{"SSL_CERT_FILE=" + around.roots}, "skopeo")
	around.openWay(t, n, listenAt(t, directAddress+":443"))
	out, err := n.run(t, "skopeo", "copy", "docker://docker.io/team/unsigned:v1", "dir:/var/lib/copied")
	if err != nil || around.asked.Load() == 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
