package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Whom the gate of identified knows, and by what.
const (
	userName     = "user:ci"
	userPassword = "pass-of-ci"
	nodeName     = "spiffe://acme.example/node/1"
	accountName  = "sub:system:serviceaccount:prod:puller"
)

// issuing is a certificate authority of the test's own.
type issuing struct {
	key *ecdsa.PrivateKey
	pem string
	of  *x509.Certificate
}

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &issuing{key: key}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "authority " + rand.Text()},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.of, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue makes a certificate and its key, as PEM.
func (a *issuing) issue(t *testing.T, change func(*x509.Certificate)) (certificate, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.of, own.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func forServer(c *x509.Certificate) {
	c.Subject.CommonName = "gate"
	c.DNSNames = []string{"localhost"}
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
}

func forNode(c *x509.Certificate) {
	c.URIs = []*url.URL{{Scheme: "spiffe", Host: "acme.example", Path: "/node/1"}}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// startIssuer is an OpenID Connect issuer on loopback, and a token by it.
func startIssuer(t *testing.T) (issuer, token string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			fmt.Fprintf(w, `{"keys":[{"kty":"RSA","kid":"1","alg":"RS256","use":"sig","n":%q,"e":"AQAB"}]}`,
				encode(key.N.Bytes()))
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/keys")
	}))
	t.Cleanup(server.Close)

	claims, err := json.Marshal(map[string]any{
		"iss": server.URL,
		"aud": []string{"pullgate"},
		"sub": strings.TrimPrefix(accountName, "sub:"),
		"exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	text := encode([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return server.URL, text + "." + encode(signature)
}

// identified is a gate that wants to know who asks, and what its clients show.
type identified struct {
	*gate
	ca                *issuing
	nodeCert, nodeKey string
	token             string
}

// startIdentified serves reg.test/user/**, reg.test/node/** and reg.test/token/**
// each to the one client that shows a name so, and by the ways listed.
func startIdentified(t *testing.T, registry, ways string) *identified {
	t.Helper()
	dir := t.TempDir()
	g := &identified{
		gate: &gate{addr: "127.0.0.1:" + freePort(t), admin: "127.0.0.1:" + freePort(t)},
		ca:   newIssuing(t),
	}
	cert, key := g.ca.issue(t, forServer)
	g.nodeCert, g.nodeKey = g.ca.issue(t, forNode)
	hash, err := bcrypt.GenerateFromPassword([]byte(userPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var issuer string
	issuer, g.token = startIssuer(t)

	settings, policies := "", ""
	for way, with := range map[string]string{
		"basic": ", htpasswdFile: users",
		"mtls":  "",
		"oidc":  `, oidc: {issuer: "` + issuer + `", audience: pullgate}`,
	} {
		if strings.Contains(ways, way) {
			settings += with
			name := map[string]string{"basic": userName, "mtls": nodeName, "oidc": accountName}[way]
			folder := map[string]string{"basic": "user", "mtls": "node", "oidc": "token"}[way]
			policies += `
  - {name: ` + folder + `, images: ["reg.test/` + folder + `/**"], clients: ["` + name + `"], static: allow}`
		}
	}
	authorities := ""
	if strings.Contains(ways, "mtls") {
		authorities = ", clientCAFile: ca.crt"
	}
	writeFile(t, filepath.Join(dir, "gate.crt"), cert)
	writeFile(t, filepath.Join(dir, "gate.key"), key)
	writeFile(t, filepath.Join(dir, "ca.crt"), g.ca.pem)
	writeFile(t, filepath.Join(dir, "users"), strings.TrimPrefix(userName, "user:")+":"+string(hash)+"\n")
	g.config = writeFile(t, filepath.Join(dir, "pullgate.yaml"), `
listen: `+g.addr+`
admin: {listen: "`+g.admin+`"}
log: {format: json}
drain: 5s
tls: {certFile: gate.crt, keyFile: gate.key`+authorities+`}
clients: {auth: [`+ways+`]`+settings+`, help: "Ask platform@acme.example."}
upstreams: [{host: reg.test, url: "http://`+registry+`"}]
policies:`+policies+`
`)
	g.process = start(t, nil, binary(t), "serve", "--config", g.config)
	waitHTTP(t, g.process, "http://"+g.admin+"/readyz")
	return g
}

// knownRuntime is a client, and how it is told a name to show.
type knownRuntime struct {
	name  string
	tools []string
	start func(t *testing.T, n *node, printed string)
	// trust has it trust the gate; login and certificate have it show a name. What
	// they return goes before the image in a pull.
	trust       func(t *testing.T, n *node, g *identified)
	login       func(t *testing.T, n *node, g *identified, user, password string) []string
	certificate func(t *testing.T, n *node, g *identified) []string
	pull        func(flags []string, image string) []string
	// silent says that it shows its user the status of a refusal alone.
	silent bool
}

// criConfig has containerd read hosts.toml for the kubelet's pulls, too.
const criConfig = "[plugins.'io.containerd.cri.v1.images'.registry]\n   config_path = '/etc/containerd/certs.d'\n"

func hostsOf(n *node, t *testing.T, g *identified, more string) {
	t.Helper()
	n.write(t, "/etc/gate/ca.crt", g.ca.pem)
	n.write(t, "/etc/gate/client.cert", g.nodeCert)
	n.write(t, "/etc/gate/client.key", g.nodeKey)
	n.write(t, "/etc/containerd/certs.d/"+g.addr+"/hosts.toml", `server = "https://`+g.addr+`"
[host."https://`+g.addr+`"]
  capabilities = ["pull", "resolve"]
  ca = "/etc/gate/ca.crt"
`+more)
}

func trustByHosts(t *testing.T, n *node, g *identified) { hostsOf(n, t, g, "") }

func certificateByHosts(t *testing.T, n *node, g *identified) []string {
	hostsOf(n, t, g, "  client = [[\"/etc/gate/client.cert\", \"/etc/gate/client.key\"]]\n")
	return nil
}

func loginByHosts(t *testing.T, n *node, g *identified, user, password string) []string {
	hostsOf(n, t, g, `  [host."https://`+g.addr+`".header]
    Authorization = "Basic `+base64.StdEncoding.EncodeToString([]byte(user+":"+password))+`"
`)
	return nil
}

// trustByFolder writes what Docker and Podman read for a registry.
func trustByFolder(folder string) func(t *testing.T, n *node, g *identified) {
	return func(t *testing.T, n *node, g *identified) {
		t.Helper()
		n.write(t, folder+"/"+g.addr+"/ca.crt", g.ca.pem)
	}
}

func certificateByFolder(folder string) func(t *testing.T, n *node, g *identified) []string {
	return func(t *testing.T, n *node, g *identified) []string {
		t.Helper()
		n.write(t, folder+"/"+g.addr+"/client.cert", g.nodeCert)
		n.write(t, folder+"/"+g.addr+"/client.key", g.nodeKey)
		return nil
	}
}

// loginWith runs a client's own login.
func loginWith(command ...string) func(t *testing.T, n *node, g *identified, user, password string) []string {
	return func(t *testing.T, n *node, g *identified, user, password string) []string {
		t.Helper()
		args := append(append([]string{}, command...), "-u", user, "-p", password, g.addr)
		if out, err := n.run(t, args...); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
		return nil
	}
}

func lastly(command ...string) func([]string, string) []string {
	return func(flags []string, image string) []string {
		return append(append(append([]string{}, command...), flags...), image)
	}
}

func userFlag(_ *testing.T, _ *node, _ *identified, user, password string) []string {
	return []string{"--user", user + ":" + password}
}

var knownRuntimes = []knownRuntime{
	{
		name:  "crane",
		tools: []string{"crane"},
		start: nothing,
		trust: func(t *testing.T, n *node, g *identified) {
			t.Helper()
			n.write(t, "/etc/gate/ca.crt", g.ca.pem)
			n.env = append(n.env, "SSL_CERT_FILE=/etc/gate/ca.crt", "DOCKER_CONFIG=/var/lib")
		},
		login: loginWith("crane", "auth", "login"),
		pull: func(_ []string, image string) []string {
			return []string{"crane", "pull", image, "/var/tmp/image.tar"}
		},
	},
	{
		name:        "skopeo",
		tools:       []string{"skopeo"},
		start:       nothing,
		trust:       trustByFolder("/etc/containers/certs.d"),
		certificate: certificateByFolder("/etc/containers/certs.d"),
		login: func(_ *testing.T, _ *node, _ *identified, user, password string) []string {
			return []string{"--src-creds", user + ":" + password}
		},
		pull: func(flags []string, image string) []string {
			return append(append([]string{"skopeo", "copy"}, flags...), "docker://"+image, "dir:/var/lib/copied")
		},
	},
	{
		name:        "podman",
		tools:       []string{"podman"},
		start:       nothing,
		trust:       trustByFolder("/etc/containers/certs.d"),
		certificate: certificateByFolder("/etc/containers/certs.d"),
		login:       loginWith("podman", "login", "--authfile", "/var/lib/auth.json"),
		pull: lastly("sh", "-c", `touch /var/lib/auth.json; [ -s /var/lib/auth.json ] || echo {} >/var/lib/auth.json
exec podman --storage-driver vfs --cgroup-manager cgroupfs --events-backend file \
	pull --authfile /var/lib/auth.json "$1"`, "sh"),
	},
	{
		name:        "containerd 1.6",
		silent:      true,
		tools:       containerd16,
		start:       startNodeContainerd(2),
		trust:       trustByHosts,
		certificate: certificateByHosts,
		login:       userFlag,
		pull: lastly(
			"ctr",
			"images",
			"pull",
			"--snapshotter",
			"native",
			"--hosts-dir",
			"/etc/containerd/certs.d",
		),
	},
	{
		name:        "containerd 2",
		tools:       containerd24,
		start:       startNodeContainerd(3),
		trust:       trustByHosts,
		certificate: certificateByHosts,
		login:       userFlag,
		pull:        lastly("ctr", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d"),
	},
	{
		name:        "containerd 2 CRI",
		tools:       append([]string{"cripull=crictl"}, containerd24...),
		start:       startNodeContainerd(3),
		trust:       trustByHosts,
		certificate: certificateByHosts,
		login:       loginByHosts,
		pull:        lastly("crictl", "pull"),
	},
	{
		// It takes loopback for insecure, and shows no certificate there.
		name:  "docker 20.10",
		tools: []string{"/usr/sbin/dockerd", "/usr/bin/docker"},
		start: startNodeDocker("--storage-driver", "vfs"),
		trust: trustByFolder("/etc/docker/certs.d"),
		login: loginWith("docker", "login"),
		pull:  lastly("docker", "pull"),
	},
	{
		name:        "docker 29",
		tools:       docker29,
		start:       startNodeDocker(),
		trust:       trustByFolder("/etc/docker/certs.d"),
		certificate: certificateByFolder("/etc/docker/certs.d"),
		login:       loginWith("docker", "login"),
		pull:        lastly("docker", "pull"),
	},
}

// TestIdentified: real clients show a name in each way they can, get what is
// theirs, and nothing else.
func TestIdentified(t *testing.T) {
	registry := startGGCR(t)
	for _, folder := range []string{"user", "node", "token"} {
		pushIndex(t, registry+"/"+folder+"/app:v1", 1000)
	}
	g := startIdentified(t, registry, "basic, mtls, oidc")

	for _, c := range knownRuntimes {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, []string{"HOME=/var/lib"}, c.tools...)
			c.trust(t, n, g)
			c.start(t, n, criConfig)
			pull := func(flags []string, folder string) (string, error) {
				return n.run(t, c.pull(flags, g.name(folder+"/app:v1"))...)
			}

			if out, err := pull(nil, "user"); err == nil {
				t.Errorf("pulled without a name:\n%s", out)
			}
			if strings.Contains(g.log.String(), `"outcome":"error"`) {
				t.Errorf("an error of the gate's: %s", tail(g.log.String(), 2000))
			}

			shows := map[string]func(t *testing.T) []string{
				"user": func(t *testing.T) []string {
					return c.login(t, n, g, strings.TrimPrefix(userName, "user:"), userPassword)
				},
				"token": func(t *testing.T) []string { return c.login(t, n, g, "token", g.token) },
				"node":  func(t *testing.T) []string { return c.certificate(t, n, g) },
			}
			for _, way := range []string{"user", "token", "node"} {
				if way == "node" {
					if c.certificate == nil {
						continue
					}
					fresh := newNode(t, []string{"HOME=/var/lib"}, c.tools...)
					c.trust(t, fresh, g)
					n = fresh
					defer c.certificate(t, n, g)
				}
				t.Run(way, func(t *testing.T) {
					flags := shows[way](t)
					if way == "node" {
						c.start(t, n, criConfig)
					}
					if out, err := pull(flags, way); err != nil {
						t.Errorf("its own: %v\n%s", err, out)
					}
					other := map[string]string{"user": "node", "node": "token", "token": "user"}[way]
					if out, err := pull(
						flags,
						other,
					); err == nil ||
						!c.silent && !strings.Contains(out, "defaultAction") {
						t.Errorf("another's: %v\n%s", err, out)
					}
				})
			}
		})
	}

	if log := g.log.String(); strings.Contains(log, userPassword) || strings.Contains(log, g.token[:60]) ||
		strings.Contains(log, base64.StdEncoding.EncodeToString([]byte("ci:"+userPassword))) {
		t.Error("a secret is in the log")
	}
	for _, name := range []string{userName, nodeName, accountName} {
		if !g.willLog(`"client_name":"` + name + `"`) {
			t.Errorf("%s is not in the log", name)
		}
	}
	explained, _ := run(t, binary(t), "explain", "reg.test/user/app:v1", "--admin", "http://"+g.admin)
	if !strings.Contains(explained, userName+" (127.0.0.1)") {
		t.Errorf("explain does not say who: %s", explained)
	}
}

// TestCertificatesAlone: what real clients show where a certificate is the only
// way, and they have none, or one that does not count.
func TestCertificatesAlone(t *testing.T) {
	registry := startGGCR(t)
	pushIndex(t, registry+"/node/app:v1", 1000)
	g := startIdentified(t, registry, "mtls")
	foreign := *g
	foreign.nodeCert, foreign.nodeKey = newIssuing(t).issue(t, forNode)
	ended := *g
	ended.nodeCert, ended.nodeKey = g.ca.issue(t, func(c *x509.Certificate) {
		forNode(c)
		c.NotAfter = time.Now().Add(-time.Minute)
	})

	for _, c := range knownRuntimes {
		t.Run(c.name, func(t *testing.T) {
			for name, shows := range map[string]*identified{
				"none":    nil,
				"foreign": &foreign,
				"ended":   &ended,
				"good":    g,
			} {
				if shows != nil && c.certificate == nil {
					continue
				}
				n := newNode(t, []string{"HOME=/var/lib"}, c.tools...)
				c.trust(t, n, g)
				var flags []string
				if shows != nil {
					flags = c.certificate(t, n, shows)
				}
				c.start(t, n, criConfig)
				out, err := n.run(t, c.pull(flags, g.name("node/app:v1"))...)
				if (err == nil) != (name == "good") {
					t.Errorf("%s: %v\n%s", name, err, out)
				}
				says := map[string]string{
					"none":    "show a client certificate",
					"foreign": "show a client certificate", // Go keeps back what no authority of the gate issued
					"ended":   "the client certificate has ended",
				}[name]
				if !c.silent && !strings.Contains(out, says) {
					t.Errorf("%s: it does not say %q:\n%s", name, says, out)
				}
			}
		})
	}
}
