package e2e

import (
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
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// internet is the way around the gate: whoever has its environment reaches one
// registry under every host's name, by https, as on a node with open egress.
type internet struct {
	env   []string
	hosts string       // where every tunnel ends
	roots string       // file, of whom to trust there
	asked atomic.Int64 // requests that came this way
}

// startInternet is an HTTP proxy on loopback; every tunnel it opens ends at
// registry, with a certificate for the name that was asked for.
func startInternet(t *testing.T, registry string) *internet {
	t.Helper()
	i := &internet{}
	authority, roots := newAuthority(t)
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: registry})
			r.SetXForwarded()
			r.Out.Host = r.In.Host // the registry writes absolute addresses
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	hosts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		forward.ServeHTTP(w, r)
	}))
	hosts.TLS = &tls.Config{GetCertificate: authority.certificate}
	hosts.Config.ErrorLog = log.New(io.Discard, "", 0)
	hosts.StartTLS()
	t.Cleanup(hosts.Close)
	tunnels := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "tunnels only", http.StatusMethodNotAllowed)
			return
		}
		tunnel(w, hosts.Listener.Addr().String())
	}))
	t.Cleanup(tunnels.Close)
	i.hosts = hosts.Listener.Addr().String()
	i.roots = writeFile(t, filepath.Join(t.TempDir(), "roots.pem"), roots)
	i.env = []string{
		"HTTPS_PROXY=" + tunnels.URL,
		"https_proxy=" + tunnels.URL,
		"NO_PROXY=127.0.0.1,localhost,gate.test",
		"no_proxy=127.0.0.1,localhost,gate.test",
		"SSL_CERT_FILE=" + i.roots,
	}
	return i
}

// tunnel joins the client to a server until one of them leaves.
func tunnel(w http.ResponseWriter, to string) {
	server, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{server, client}, {client, server}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // a connection that breaks is the test's own matter
			done <- struct{}{}
		}()
	}
	<-done
}

// authority certifies any name.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) (a authority, roots string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test roots"},
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
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (a authority) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.certify(hello.ServerName)
}

func (a authority) certify(name string) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		DNSNames:     []string{name},
		NotBefore:    a.cert.NotBefore,
		NotAfter:     a.cert.NotAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}, nil
}

// files are a certificate for name and its key, as servers read them.
func (a authority) files(t *testing.T, name string) (cert, key string) {
	t.Helper()
	made, err := a.certify(name)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return writeFile(t, filepath.Join(dir, "tls.pem"), string(pem.EncodeToMemory(&pem.Block{
			Type:  "CERTIFICATE",
			Bytes: made.Certificate[0],
		}))),
		writeFile(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{
			Type:  "PRIVATE KEY",
			Bytes: der,
		})))
}
