package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// kept is a runtime that the files of node-config are to keep at the gate.
type kept struct {
	name  string
	tools []string
	// config is what node-config is asked for; start brings up the daemons with
	// what it printed.
	config []string
	start  func(t *testing.T, n *node, printed string)
	pull   func(image string) []string
	// doctor is what doctor calls the runtime.
	doctor string
	named  bool // images are named through the gate
	loose  bool // no file keeps every pull: doctor finds the way around, while there is one
	// says is what it prints when the gate refuses, as docs/troubleshooting.md has it.
	says string
	// naive are files that look right and are not, and what doctor says of them.
	naive []naive
}

type naive struct {
	name, advice string
	path         string
	text         string // GATE stands for the gate's address
}

var (
	hostsBefore = naive{
		"a mirror before the registry",
		"has server https://registry-1.docker.io",
		"/etc/containerd/certs.d/docker.io/hosts.toml",
		"server = \"https://registry-1.docker.io\"\n[host.\"http://GATE\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
	}
	hostsWithoutServer = naive{
		"no server",
		"has no server",
		hostsBefore.path,
		"[host.\"http://GATE\"]\n  capabilities = [\"pull\", \"resolve\"]\n",
	}
	hostsWithoutHost = naive{
		"no host",
		"containerd 1.6 rejects the file",
		hostsBefore.path,
		"server = \"http://GATE\"\n",
	}
	mirrorBefore = naive{
		"a mirror before the registry",
		"use location instead",
		"/etc/containers/registries.conf.d/mirror.conf",
		"[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n[[registry.mirror]]\n" +
			"location = \"GATE/docker.io\"\ninsecure = true\n",
	}
	dockerMirror = naive{
		"registry-mirrors",
		"registry-mirrors do not hold",
		"/etc/docker/daemon.json",
		`{"registry-mirrors": ["http://GATE"]}`,
	}
)

var (
	containerd16 = []string{"/usr/bin/containerd", "/usr/bin/ctr", "runc"}
	containerd24 = []string{"containerd2=containerd", "ctr2=ctr", "runc"}
	docker29     = []string{"dockerd29=dockerd", "/usr/bin/docker", "containerd2=containerd", "runc"}
	podmanConfig = []string{"podman"}
)

func ctrPull(more ...string) func(string) []string {
	return func(image string) []string {
		return append(append([]string{
			"ctr",
			"images",
			"pull",
			"--hosts-dir",
			"/etc/containerd/certs.d",
		}, more...), image)
	}
}

// pulls is a command that takes the image last.
func pulls(args ...string) func(string) []string {
	return func(image string) []string { return append(args[:len(args):len(args)], image) }
}

func nothing(*testing.T, *node, string) {}

var allKept = []kept{
	{
		name:   "containerd 1.6 ctr",
		says:   "failed with status code [manifests",
		tools:  containerd16,
		config: []string{"containerd", "--version", "1.6"},
		start:  startNodeContainerd(2),
		pull:   ctrPull(),
		doctor: "containerd",
		naive:  []naive{hostsBefore, hostsWithoutServer, hostsWithoutHost},
	},
	{
		name:   "containerd 1.6 CRI",
		says:   "failed with status code [manifests",
		tools:  append([]string{"cripull=crictl"}, containerd16...),
		config: []string{"containerd", "--version", "1.6"},
		start:  startNodeContainerd(2),
		pull:   pulls("crictl", "pull"),
		doctor: "crictl",
		naive: []naive{
			{"a mirror before the registry", "", hostsBefore.path, hostsBefore.text},
			{"no host", "", hostsBefore.path, hostsWithoutHost.text},
		},
	},
	{
		name:   "containerd 2 ctr",
		says:   "denied: ",
		tools:  containerd24,
		config: []string{"containerd"},
		start:  startNodeContainerd(3),
		pull:   ctrPull(),
		doctor: "containerd",
		naive:  []naive{hostsBefore, hostsWithoutServer},
	},
	{
		name:   "containerd 2 CRI",
		says:   "denied: ",
		tools:  append([]string{"cripull=crictl"}, containerd24...),
		config: []string{"containerd"},
		start:  startNodeContainerd(3),
		pull:   pulls("crictl", "pull"),
		doctor: "crictl",
		naive:  []naive{{"a mirror before the registry", "", hostsBefore.path, hostsBefore.text}},
	},
	{
		name:   "nerdctl",
		says:   "403 Forbidden",
		tools:  append([]string{"nerdctl"}, containerd24...),
		config: []string{"containerd"},
		start:  startNodeContainerd(3),
		pull:   pulls("nerdctl", "pull"),
		doctor: "nerdctl",
		naive:  []naive{hostsBefore},
	},
	{
		name:   "podman",
		says:   "denied: ",
		tools:  []string{"podman"},
		config: podmanConfig,
		start:  nothing,
		pull:   pulls("podman", "pull"),
		doctor: "podman",
		naive:  []naive{mirrorBefore},
	},
	{
		name:   "buildah",
		says:   "denied: ",
		tools:  []string{"buildah"},
		config: podmanConfig,
		start:  nothing,
		pull:   pulls("buildah", "pull", "--policy", "always"),
		doctor: "buildah",
		naive:  []naive{mirrorBefore},
	},
	{
		name:   "skopeo",
		says:   "denied: ",
		tools:  []string{"skopeo"},
		config: podmanConfig,
		start:  nothing,
		doctor: "skopeo",
		naive:  []naive{mirrorBefore},
		pull: func(image string) []string {
			return []string{
				"sh",
				"-c",
				`exec skopeo copy "docker://$1" "dir:$(mktemp -d /var/lib/copyXXXX)"`,
				"sh",
				image,
			}
		},
	},
	{
		name:   "docker 20.10",
		says:   "repository does not exist or may require 'docker login': denied: ",
		tools:  []string{"/usr/sbin/dockerd", "/usr/bin/docker"},
		config: []string{"docker"},
		named:  true,
		loose:  true,
		pull:   pulls("docker", "pull"),
		doctor: "docker",
		start:  startNodeDocker("--storage-driver", "vfs"),
		naive:  []naive{dockerMirror},
	},
	{
		name:   "docker 29",
		says:   "error from registry: ",
		tools:  docker29,
		config: []string{"docker"},
		named:  true,
		loose:  true,
		pull:   pulls("docker", "pull"),
		doctor: "docker",
		start:  startNodeDocker(),
		naive:  []naive{dockerMirror},
	},
	{
		name:   "docker 29 hosts.toml",
		says:   "error from registry: ",
		tools:  docker29,
		config: []string{"docker", "--version", "29"},
		pull:   pulls("docker", "pull"),
		doctor: "docker",
		start:  startNodeDocker(),
		naive: []naive{{
			hostsBefore.name,
			hostsBefore.advice,
			"/etc/docker/certs.d/docker.io/hosts.toml",
			hostsBefore.text,
		}},
	},
	{
		name:   "docker 29 build",
		says:   "denied: ",
		tools:  docker29,
		config: []string{"docker", "--version", "29"},
		doctor: "docker",
		start:  startNodeDocker(),
		pull: func(image string) []string {
			return []string{
				"sh",
				"-c",
				`echo "FROM $1" | DOCKER_BUILDKIT=1 docker build --progress plain --tag built -`,
				"sh",
				image,
			}
		},
	},
	{
		name:   "buildkit source policy",
		says:   "403 Forbidden",
		tools:  []string{"buildkitd", "buildctl", "runc"},
		config: []string{"buildkit"},
		loose:  true,
		pull:   buildFrom("--source-policy-file", "/etc/buildkit/pullgate-policy.json"),
		doctor: "buildkit",
		start:  startNodeBuildkit,
	},
	{
		name:   "buildkit",
		says:   "403 Forbidden",
		tools:  []string{"buildkitd", "buildctl", "runc"},
		config: []string{"buildkit"},
		named:  true,
		loose:  true,
		pull:   buildFrom(),
		doctor: "buildkit",
		start:  startNodeBuildkit,
		naive: []naive{{
			"mirrors",
			"mirrors do not hold",
			"/etc/buildkit/buildkitd.toml",
			"[registry.\"docker.io\"]\n  mirrors = [\"GATE\"]\n[registry.\"GATE\"]\n  http = true\n",
		}},
	},
}

var criSection = regexp.MustCompile(`(?m)^\[plugins\..*\]\n +config_path = .*\n`)

// startNodeContainerd gives the daemon the section that node-config prints for
// config.toml, or the like of it where nothing was printed.
func startNodeContainerd(version int) func(*testing.T, *node, string) {
	return func(t *testing.T, n *node, printed string) {
		t.Helper()
		section := criSection.FindString(printed)
		if section == "" {
			t.Fatalf("node-config prints no section for config.toml:\n%s", printed)
		}
		n.write(t, "/etc/containerd/config.toml", "version = "+string(rune('0'+version))+"\n"+section)
		n.start(t, "/run/containerd/containerd.sock", "containerd")
	}
}

func startNodeDocker(flags ...string) func(*testing.T, *node, string) {
	return func(t *testing.T, n *node, _ string) {
		t.Helper()
		// The client is Debian's, older than what Docker 29 serves unasked.
		n.env = append(n.env, "DOCKER_MIN_API_VERSION=1.24")
		n.start(t, "/run/docker.sock", append([]string{
			"dockerd",
			"--iptables=false",
			"--ip6tables=false",
			"--bridge=none",
			"--userland-proxy=false",
		}, flags...)...)
		for range 100 {
			if _, err := n.run(t, "docker", "version"); err == nil {
				return
			}
		}
		t.Fatal("dockerd does not answer")
	}
}

func startNodeBuildkit(t *testing.T, n *node, _ string) {
	t.Helper()
	n.start(t, "/run/buildkit/buildkitd.sock", "buildkitd", "--containerd-worker=false")
}

// buildFrom builds an image that is nothing but the one it is built from.
func buildFrom(flags ...string) func(string) []string {
	return func(image string) []string {
		return append([]string{
			"sh",
			"-c",
			`cd "$(mktemp -d /var/lib/buildXXXX)"; echo "FROM $1" >Dockerfile; shift
exec buildctl build --no-cache --progress plain --frontend dockerfile.v0 \
	--local context=. --local dockerfile=. --output type=oci,dest=image.tar "$@"`,
			"sh",
			image,
		}, flags...)
	}
}

// shelf is a registry with images of a name, each signed or not.
type shelf struct {
	registry, public string
	parts            map[string][]string // of "team/signed:v1": the hexadecimal digests
}

var shelfHosts = []string{"docker.io", "reg.test"}

const shelfCanary = "docker.io/team/canary:v1"

func newShelf(t *testing.T) *shelf {
	t.Helper()
	s := &shelf{registry: startDistribution(t), parts: map[string][]string{}}
	var key string
	key, s.public = keyPair(t)
	for _, image := range []string{"team/signed:v1", "team/unsigned:v1", "team/later:v1", "team/canary:v1"} {
		d := pushIndex(t, s.registry+"/"+image, 10_000)
		repo, _, _ := strings.Cut(image, ":")
		s.parts[image] = partsOf(t, s.registry, repo, d)
		if image == "team/signed:v1" || image == "team/later:v1" {
			signers["v2 legacy"](t, key, s.registry+"/"+repo+"@"+d)
		}
	}
	return s
}

// listing is what an index or a manifest lists.
type listing struct {
	Manifests, Layers []struct{ Digest string }
	Config            struct{ Digest string }
}

func listingOf(t *testing.T, registry, repo, digest string) listing {
	t.Helper()
	req, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodGet,
		"http://"+registry+"/v2/"+repo+"/manifests/"+digest,
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["Accept"] = []string{string(types.OCIImageIndex), string(types.OCIManifestSchema1)}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var l listing
	if err := json.NewDecoder(resp.Body).Decode(&l); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %v", digest, resp.Status, err)
	}
	return l
}

// childrenOf is the digests of an index's manifests.
func childrenOf(t *testing.T, registry, repo, index string) []string {
	t.Helper()
	var digests []string
	for _, child := range listingOf(t, registry, repo, index).Manifests {
		digests = append(digests, child.Digest)
	}
	return digests
}

// partsOf lists an index, its manifests, configs and layers, in hexadecimal.
func partsOf(t *testing.T, registry, repo, digest string) []string {
	t.Helper()
	_, hex, _ := strings.Cut(digest, ":")
	parts := []string{hex}
	l := listingOf(t, registry, repo, digest)
	for _, child := range l.Manifests {
		parts = append(parts, partsOf(t, registry, repo, child.Digest)...)
	}
	for _, blob := range append(l.Layers, l.Config) {
		if _, hex, ok := strings.Cut(blob.Digest, ":"); ok {
			parts = append(parts, hex)
		}
	}
	return parts
}

func (s *shelf) gate(t *testing.T) *gate {
	t.Helper()
	return startGateHosts(t, shelfHosts, s.registry, signedBy(s.public)+"\ncanary: "+shelfCanary)
}

// place is how a node reaches the gate.
type place struct {
	name, scheme, host string
}

var places = []place{
	{"loopback", "http", "127.0.0.1"},
	{"plain", "http", "gate.test"}, // in the node's /etc/hosts
	{"https", "https", "gate.test"},
}

// asks is the flags by which node-config and doctor learn of the gate.
func (p place) asks(g *gate) []string {
	_, port, _ := strings.Cut(g.addr, ":")
	flags := []string{"--gate", p.scheme + "://" + p.host + ":" + port}
	if p.scheme == "https" {
		flags = append(flags, "--ca", "/etc/pullgate/ca.pem")
	}
	return flags
}

// gate starts one there, and lets the node find it.
func (p place) gate(t *testing.T, s *shelf, n *node) *gate {
	t.Helper()
	more := ""
	if p.scheme == "https" {
		a, roots := newAuthority(t)
		cert, key := a.files(t, p.host)
		n.write(t, "/etc/pullgate/ca.pem", roots)
		more = "\ntls: {certFile: " + cert + ", keyFile: " + key + "}"
	}
	n.write(t, "/etc/hosts", "127.0.0.1 localhost gate.test\n")
	return startGateHosts(t, shelfHosts, s.registry, signedBy(s.public)+"\ncanary: "+shelfCanary+more)
}

// TestHeld: with the files that node-config prints, at the paths it prints, an
// admitted image arrives, and a refused one or a gate that is down ends the
// pull, although the registry can be reached beside the gate.
func TestHeld(t *testing.T) {
	s := newShelf(t)
	for _, k := range allKept {
		for _, p := range places {
			t.Run(k.name+"/"+p.name, func(t *testing.T) { testHeld(t, s, k, p) })
		}
	}
}

func testHeld(t *testing.T, s *shelf, k kept, p place) {
	if page, err := os.ReadFile(
		"../../docs/troubleshooting.md",
	); err != nil ||
		!strings.Contains(string(page), k.says) {
		t.Errorf("docs/troubleshooting.md does not show %q: %v", k.says, err)
	}
	around := startInternet(t, s.registry)
	n := newNode(t, around.env, k.tools...)
	g := p.gate(t, s, n)
	args := append(k.config[:len(k.config):len(k.config)], p.asks(g)...)
	for _, h := range shelfHosts {
		args = append(args, "--upstream", h)
	}
	k.start(t, n, n.configure(t, args...))
	pull := func(host, image string) (string, error) {
		name := host + "/" + image
		if k.named {
			_, at, _ := strings.Cut(p.asks(g)[1], "//")
			name = at + "/" + name
		}
		return n.run(t, k.pull(name)...)
	}
	for _, host := range shelfHosts {
		for _, unsigned := range []string{
			"team/unsigned:v1",
			"team/unsigned@sha256:" + s.parts["team/unsigned:v1"][0],
		} {
			out, err := pull(host, unsigned)
			if err == nil || n.landed(t, s.parts["team/unsigned:v1"]) {
				t.Errorf("%s: an image that is not signed arrives: %v\n%s", host, err, out)
			}
			if !strings.Contains(out, k.says) {
				t.Errorf("the refusal does not say %q:\n%s", k.says, out)
			}
		}
		if !g.willDecide("denied", host+"/team/unsigned") {
			t.Errorf("%s: the pulls failed, and not at the gate", host)
		}
		if out, err := pull(host, "team/signed:v1"); err != nil || !n.landed(t, s.parts["team/signed:v1"]) {
			t.Errorf("%s: an admitted image does not arrive: %v\n%s", host, err, out)
		}
	}
	if !k.loose {
		d, exit := n.doctor(t, shelfCanary, k.doctor, p.asks(g)...)
		d.expect(t, exit, "held", "")
	}
	g.stop(t, syscall.SIGTERM)
	if out, err := pull("docker.io", "team/later:v1"); err == nil || n.landed(t, s.parts["team/later:v1"]) {
		t.Errorf("an image arrives while the gate is down: %v\n%s", err, out)
	}
	if asked := around.asked.Load(); asked > 0 {
		t.Errorf("%d requests went around the gate", asked)
	}
	g.up(t)
	if out, err := pull("docker.io", "team/later:v1"); err != nil || !n.landed(t, s.parts["team/later:v1"]) {
		t.Errorf("the gate is up again, and the image does not arrive: %v\n%s", err, out)
	}
	if k.loose { // for its being held, see TestClosed
		d, exit := n.doctor(t, shelfCanary, k.doctor, p.asks(g)...)
		d.expect(t, exit, "BYPASSED", "")
	}
}

// TestNaive: what looks like the right configuration and is not is BYPASSED.
func TestNaive(t *testing.T) {
	s := newShelf(t)
	for _, k := range allKept {
		for _, bad := range k.naive {
			t.Run(k.name+"/"+bad.name, func(t *testing.T) {
				around := startInternet(t, s.registry)
				n := newNode(t, around.env, k.tools...)
				g := s.gate(t)
				n.write(t, bad.path, strings.ReplaceAll(bad.text, "GATE", g.addr))
				k.start(
					t,
					n,
					mustRun(
						t,
						binary(t),
						append([]string{"node-config"}, append(k.config, "--gate", "http://"+g.addr)...)...),
				)
				d, exit := n.doctor(t, shelfCanary, k.doctor, "--gate", "http://"+g.addr)
				d.expect(t, exit, "BYPASSED", bad.advice)
				if around.asked.Load() == 0 {
					t.Error("nothing went around the gate: the test shows nothing")
				}
			})
		}
	}
}

// TestClosed: Docker and BuildKit, which no file keeps, are held once the node
// reaches nothing but the gate.
func TestClosed(t *testing.T) {
	s := newShelf(t)
	for _, k := range allKept {
		if !k.loose {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			n := newNode(t, closed(), k.tools...)
			g := s.gate(t)
			k.start(t, n, n.configure(t, append(k.config, "--gate", "http://"+g.addr)...))
			d, exit := n.doctor(t, shelfCanary, k.doctor, "--gate", "http://"+g.addr)
			d.expect(t, exit, "held", "")
		})
	}
}
