package cloud

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// outside is all that lies beyond this process's loopback.
var outside *internet

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pullgate-cloud")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{
			"AWS_", "AZURE_", "GOOGLE_", "GCE_", "IDENTITY_", "OTEL_", "NO_PROXY", "no_proxy",
		} {
			if strings.HasPrefix(name, prefix) {
				_ = os.Unsetenv(name)
			}
		}
	}
	outside = newInternet()
	defer outside.close()
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, outside.roots, 0o600); err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"SSL_CERT_FILE":               roots,
		"SSL_CERT_DIR":                dir,
		"HTTPS_PROXY":                 outside.proxy.URL,
		"HTTP_PROXY":                  outside.proxy.URL,
		"HOME":                        dir,
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             filepath.Join(dir, "none"),
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "none"),
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

// internet is an HTTP proxy to servers with names. Each has a certificate that
// the process trusts.
type internet struct {
	proxy  *httptest.Server
	server *httptest.Server // TLS, for every name
	roots  []byte           // PEM

	mu      sync.Mutex
	sites   map[string]http.HandlerFunc
	seen    []asked
	unknown []string // hosts that were asked for, and are none
}

// asked is one request: where it went, and all that it said.
type asked struct{ host, path, text string }

func newInternet() *internet {
	n := &internet{sites: map[string]http.HandlerFunc{}}
	ca, key := authority()
	n.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})

	n.server = httptest.NewUnstartedServer(http.HandlerFunc(n.serve))
	n.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.server.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return leaf(ca, key, hello.ServerName)
	}}
	n.server.StartTLS()
	n.proxy = httptest.NewServer(http.HandlerFunc(n.connect))
	return n
}

func (n *internet) close() {
	n.proxy.Close()
	n.server.Close()
}

// site puts a server under a name.
func (n *internet) site(host string, h http.HandlerFunc) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sites[host] = h
}

// forget drops what was seen.
func (n *internet) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen, n.unknown = nil, nil
}

// strangers are the hosts without a server that were asked for.
func (n *internet) strangers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.unknown)
}

// to are the requests to a host below a path.
func (n *internet) to(host, path string) []asked {
	n.mu.Lock()
	defer n.mu.Unlock()

	var list []asked
	for _, a := range n.seen {
		if a.host == host && strings.HasPrefix(a.path, path) {
			list = append(list, a)
		}
	}
	return list
}

// whoSaw are the hosts that were sent a text.
func (n *internet) whoSaw(text string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()

	var list []string
	for _, a := range n.seen {
		if strings.Contains(a.text, text) && !slices.Contains(list, a.host) {
			list = append(list, a.host)
		}
	}
	return list
}

func (n *internet) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var text strings.Builder
	_ = r.Header.Write(&text)
	if user, password, ok := r.BasicAuth(); ok {
		text.WriteString(user + ":" + password + "\n")
	}
	text.Write(body)

	n.mu.Lock()
	n.seen = append(n.seen, asked{host: r.Host, path: r.URL.Path, text: r.URL.RequestURI() + "\n" + text.String()})
	site := n.sites[r.Host]
	n.mu.Unlock()
	if site == nil {
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	site(w, r)
}

// connect is the proxy. It leads to known names on port 443 and nowhere else.
func (n *internet) connect(w http.ResponseWriter, r *http.Request) {
	host, port, _ := net.SplitHostPort(r.Host)
	n.mu.Lock()
	known := n.sites[host] != nil && port == "443" && r.Method == http.MethodConnect
	if !known {
		n.unknown = append(n.unknown, r.Host)
	}
	n.mu.Unlock()
	if !known {
		w.WriteHeader(http.StatusBadGateway)
		return
	}

	to, err := net.Dial("tcp", n.server.Listener.Addr().String())
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusOK)
	from, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = to.Close()
		return
	}
	go pipe(to, buffer.Reader, from)
	go pipe(from, bufio.NewReader(to), to)
}

// pipe copies until one end closes, and closes both.
func pipe(to net.Conn, from io.Reader, other net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = other.Close()
}

func authority() (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test root"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return ca, key
}

func leaf(ca *x509.Certificate, caKey *ecdsa.PrivateKey, host string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{host},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
