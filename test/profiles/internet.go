package profiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"
)

// Internet is every host name there is, on loopback: an HTTP proxy, behind which
// one TLS server answers under whatever name is asked for. The gate under test
// runs as it is, with its own rules about hosts, ports and TLS.
//
// Tests run beside one another and ask for the same names. What tells them apart
// is the User-Agent, which the gate sends with each of its requests.
type Internet struct {
	proxy *httptest.Server
	sites *httptest.Server
	conns tunnel
	root  *x509.Certificate
	key   *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate // by name
	worlds map[string]http.Handler     // by User-Agent
}

// NewInternet starts it. Errors are those of making keys and listening.
func NewInternet() (*Internet, error) {
	n := &Internet{
		conns:  tunnel{conns: make(chan net.Conn), closed: make(chan struct{})},
		leaves: map[string]*tls.Certificate{},
		worlds: map[string]http.Handler{},
	}
	if err := n.makeRoot(); err != nil {
		return nil, err
	}

	silent := log.New(io.Discard, "", 0)
	n.sites = httptest.NewUnstartedServer(http.HandlerFunc(n.answer))
	n.sites.Listener = &n.conns
	n.sites.EnableHTTP2 = true
	n.sites.TLS = &tls.Config{GetCertificate: n.leaf}
	n.sites.Config.ErrorLog = silent
	n.sites.StartTLS()

	n.proxy = httptest.NewUnstartedServer(http.HandlerFunc(n.connect))
	n.proxy.Config.ErrorLog = silent
	n.proxy.Start()
	return n, nil
}

// Close ends it.
func (n *Internet) Close() {
	n.proxy.CloseClientConnections()
	n.proxy.Close()
	n.sites.CloseClientConnections()
	n.sites.Close()
}

// ProxyURL is what HTTPS_PROXY has to hold for it to be asked.
func (n *Internet) ProxyURL() string { return n.proxy.URL }

// Roots trusts the certificates of all its names.
func (n *Internet) Roots() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(n.root)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// Join answers requests with a User-Agent until leave is called.
func (n *Internet) Join(agent string, h http.Handler) (leave func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.worlds[agent] = h

	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.worlds, agent)
	}
}

// connect opens a tunnel. What is asked for without TLS is answered too, so that
// tests see it.
func (n *Internet) connect(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodConnect {
		n.answer(w, req)
		return
	}

	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "no tunnel", http.StatusInternalServerError)
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	n.conns.pass(conn)
}

func (n *Internet) answer(w http.ResponseWriter, req *http.Request) {
	n.mu.Lock()
	world := n.worlds[req.UserAgent()]
	n.mu.Unlock()

	if world == nil {
		http.Error(w, "this User-Agent is in no world", http.StatusForbidden)
		return
	}
	world.ServeHTTP(w, req)
}

func (n *Internet) makeRoot() (err error) {
	if n.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "root of all test sites"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	n.root, err = n.certify(template, template)
	return err
}

func (n *Internet) certify(template, parent *x509.Certificate) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, n.key.Public(), n.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// leaf is the certificate of a name.
func (n *Internet) leaf(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if known := n.leaves[hello.ServerName]; known != nil {
		return known, nil
	}

	cert, err := n.certify(&x509.Certificate{
		SerialNumber: big.NewInt(int64(2 + len(n.leaves))),
		NotBefore:    n.root.NotBefore,
		NotAfter:     n.root.NotAfter,
		DNSNames:     []string{hello.ServerName},
	}, n.root)
	if err != nil {
		return nil, err
	}
	n.leaves[hello.ServerName] = &tls.Certificate{
		Certificate: [][]byte{cert.Raw},
		PrivateKey:  n.key,
	}
	return n.leaves[hello.ServerName], nil
}

// tunnel is a listener for connections that come through the proxy.
type tunnel struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (t *tunnel) pass(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.closed:
		_ = c.Close()
	}
}

// Accept waits for the next connection.
func (t *tunnel) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener.
func (t *tunnel) Close() error {
	t.once.Do(func() { close(t.closed) })
	return nil
}

// Addr is an address of loopback.
func (t *tunnel) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
