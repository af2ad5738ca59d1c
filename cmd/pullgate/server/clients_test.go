package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullgate/pullgate/test/rig"
)

// patience bounds every wait for something that happens.
const patience = 30 * time.Second

// issuing is a certificate authority of a test's own.
type issuing struct {
	of  *x509.Certificate
	key *ecdsa.PrivateKey
	pem string
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
		Subject:               pkix.Name{CommonName: rand.Text()},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(1000 * time.Hour),
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

// issue makes a certificate by which a gate is known on loopback, and a client as
// cn:NAME, and its key.
func (a *issuing) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(1000 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
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

// secure is a client of a gate over TLS.
type secure struct {
	t      *testing.T
	gate   string
	client *http.Client
	serial atomic.Pointer[big.Int] // of the gate's certificate, as last seen
}

// newSecure trusts the authorities, and shows a certificate if it has one.
func newSecure(t *testing.T, gate string, trusted *issuing, pair ...string) *secure {
	t.Helper()
	s := &secure{t: t, gate: gate}
	roots := x509.NewCertPool()
	roots.AddCert(trusted.of)
	config := &tls.Config{
		RootCAs:            roots,
		ClientSessionCache: tls.NewLRUClientSessionCache(8),
		VerifyConnection: func(c tls.ConnectionState) error {
			s.serial.Store(c.PeerCertificates[0].SerialNumber)
			return nil
		},
	}
	if len(pair) == 2 {
		own, err := tls.X509KeyPair([]byte(pair[0]), []byte(pair[1]))
		if err != nil {
			t.Fatal(err)
		}
		// A client that shows what the gate's authorities have not issued, too.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: patience}
	return s
}

// status asks for a path, as a user if there is one.
func (s *secure) status(what string, login ...string) int {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://"+s.gate+"/v2/demo.example/"+what, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(login) == 2 {
		r.SetBasicAuth(login[0], login[1])
	}
	answer, err := s.client.Do(r)
	if err != nil {
		s.t.Logf("%v", err)
		return 0
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode
}

// until waits until a condition holds. A reload takes effect when the files have
// settled.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

const signedOne = "signed/manifests/latest"

// anyImage admits everything, to the clients if there are any.
func anyImage(clients string) string {
	if clients != "" {
		clients = ", clients: [" + clients + "]"
	}
	return `policies: [{name: open, images: ["demo.example/**"]` + clients + ", static: allow}]\n"
}

func htpasswd(t *testing.T, users map[string]string) string {
	t.Helper()
	text := ""
	for user, password := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text += user + ":" + string(hash) + "\n"
	}
	return text
}

// TestCertificateReload: a new pair is shown from the next handshake on; half of
// one is not, and is said to be wrong while the old one stays.
func TestCertificateReload(t *testing.T) {
	ca := newIssuing(t)
	var dir string
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := rig.Start(t, func(r *rig.Rig) string {
		dir = r.Dir
		certificate, key := ca.issue(t, "gate")
		write("gate.crt", certificate)
		write("gate.key", key)
		return r.Base() + "tls: {certFile: gate.crt, keyFile: gate.key}\n" + anyImage("")
	})
	handshake := func() *big.Int {
		s := newSecure(t, r.Gate, ca)
		if status := s.status(signedOne); status != http.StatusOK {
			t.Fatalf("status %d", status)
		}
		return s.serial.Load()
	}
	first := handshake()
	_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
	if !strings.Contains(metrics, "pullgate_certificate_end_seconds 1.") {
		t.Errorf("metrics do not say when the certificate ends")
	}

	certificate, key := ca.issue(t, "gate")
	write("gate.crt", certificate) // the key still is the old one's
	r.UntilReady(t, "private key does not match")
	if handshake().Cmp(first) != 0 {
		t.Error("a certificate is shown without its key")
	}
	write("gate.key", key)
	until(t, "the new certificate", func() bool { return handshake().Cmp(first) != 0 })

	t.Run("old protocol", func(t *testing.T) {
		roots := x509.NewCertPool()
		roots.AddCert(ca.of)
		conn, err := tls.Dial("tcp", r.Gate, &tls.Config{
			RootCAs:    roots,
			MinVersion: tls.VersionTLS10, //nolint:gosec // which the gate must not speak
			MaxVersion: tls.VersionTLS11,
		})
		if err == nil {
			_ = conn.Close()
			t.Error("the gate speaks TLS 1.1")
		}
	})
}

// TestCertificateSwap: a Secret's or ConfigMap's files are links into a folder that
// is swapped.
func TestCertificateSwap(t *testing.T) {
	ca := newIssuing(t)
	var dir string
	put := func(folder string) {
		t.Helper()
		certificate, key := ca.issue(t, "gate")
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
		rig.Write(t, filepath.Join(dir, folder), "tls.crt", certificate)
		rig.Write(t, filepath.Join(dir, folder), "tls.key", key)
		if err := os.Symlink(folder, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	r := rig.Start(t, func(r *rig.Rig) string {
		dir = filepath.Join(r.Dir, "secret")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		put("..one")
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		return r.Base() + "tls: {certFile: secret/tls.crt, keyFile: secret/tls.key}\n" + anyImage("")
	})
	serial := func() *big.Int {
		s := newSecure(t, r.Gate, ca)
		s.status(signedOne)
		return s.serial.Load()
	}
	first := serial()
	put("..two")
	until(t, "the new certificate", func() bool { return serial().Cmp(first) != 0 })
}

// TestAuthoritiesReload: an authority that is taken away takes its clients away,
// on connections that live and in sessions that are resumed.
func TestAuthoritiesReload(t *testing.T) {
	ca, old, next := newIssuing(t), newIssuing(t), newIssuing(t)
	r := rig.Start(t, func(r *rig.Rig) string {
		certificate, key := ca.issue(t, "gate")
		rig.Write(t, r.Dir, "gate.crt", certificate)
		rig.Write(t, r.Dir, "gate.key", key)
		rig.Write(t, r.Dir, "ca.crt", old.pem)
		return r.Base() + "tls: {certFile: gate.crt, keyFile: gate.key, clientCAFile: ca.crt}\n" +
			"clients: {auth: [mtls]}\n" + anyImage(`"cn:node-*"`)
	})
	certificate, key := old.issue(t, "node-1")
	living := newSecure(t, r.Gate, ca, certificate, key)
	resuming := newSecure(t, r.Gate, ca, certificate, key)
	stranger := newSecure(t, r.Gate, ca)
	for _, row := range []struct {
		what   string
		client *secure
		want   int
	}{
		{"its own", living, http.StatusOK},
		{"another", resuming, http.StatusOK},
		{"none", stranger, http.StatusForbidden},
	} {
		if status := row.client.status(signedOne); status != row.want {
			t.Errorf("%s: status %d, want %d", row.what, status, row.want)
		}
	}
	certificate, key = old.issue(t, "other")
	if status := newSecure(t, r.Gate, ca, certificate, key).status(signedOne); status != http.StatusForbidden {
		t.Errorf("another name: status %d", status)
	}

	rig.Replace(t, filepath.Join(r.Dir, "ca.crt"), next.pem)
	until(t, "the connection's certificate counts no more",
		func() bool { return living.status(signedOne) == http.StatusForbidden })
	resuming.client.CloseIdleConnections()
	if status := resuming.status(signedOne); status != http.StatusForbidden {
		t.Errorf("a resumed session: status %d", status)
	}
	certificate, key = next.issue(t, "node-2")
	if status := newSecure(t, r.Gate, ca, certificate, key).status(signedOne); status != http.StatusOK {
		t.Errorf("the next authority's: status %d", status)
	}

	rig.Replace(t, filepath.Join(r.Dir, "ca.crt"), "no certificate")
	r.UntilReady(t, "ca.crt: it holds no PEM certificates")
	if status := newSecure(t, r.Gate, ca, certificate, key).status(signedOne); status != http.StatusOK {
		t.Errorf("with a broken file: status %d", status)
	}
}

// TestPasswordReload: a password that is changed, and a user who is removed, count
// no more, whatever memory knew of them.
func TestPasswordReload(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "users", htpasswd(t, map[string]string{"ci": "one", "gone": "one"}))
		return r.Base() + "clients: {auth: basic, htpasswdFile: users}\n" + anyImage(`"user:*"`)
	})
	ask := func(user, password string) int {
		t.Helper()
		q, err := http.NewRequest(http.MethodGet, "http://"+r.Gate+"/v2/demo.example/"+signedOne, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.SetBasicAuth(user, password)
		status, _ := rig.Do(t, q)
		return status
	}
	if ask("ci", "one") != http.StatusOK || ask("gone", "one") != http.StatusOK ||
		ask("ci", "two") != http.StatusUnauthorized || r.Pull(t, signedOne) != http.StatusUnauthorized {
		t.Fatal("before")
	}

	file := filepath.Join(r.Dir, "users")
	rig.Replace(t, file, htpasswd(t, map[string]string{"ci": "two"}))
	until(t, "the new password", func() bool { return ask("ci", "two") == http.StatusOK })
	if ask("ci", "one") != http.StatusUnauthorized || ask("gone", "one") != http.StatusUnauthorized {
		t.Error("what memory knew counts still")
	}

	rig.Replace(t, file, htpasswd(t, map[string]string{"ci": "three"})+"sha:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=\n")
	r.UntilReady(t, file+`:2: clients.htpasswdFile: the line user "sha" has a hash that is not bcrypt's`)
	if ask("ci", "two") != http.StatusOK {
		t.Error("a broken file has taken the old one's place")
	}
}

// TestIssuerReload: an issuer that is away at the start leaves its tokens open, and
// another one is asked when the configuration names it.
func TestIssuerReload(t *testing.T) {
	var asked atomic.Int64
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		if q.URL.Path == "/keys" {
			fmt.Fprint(
				w,
				`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
			)
			return
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, server.URL+"/keys")
	}))
	t.Cleanup(server.Close)
	settings := func(issuer string) string {
		return `clients: {auth: [oidc], oidc: {issuer: "` + issuer + `", audience: pullgate}}` + "\n"
	}
	away := "http://127.0.0.1:1"
	r := rig.Start(t, func(r *rig.Rig) string { return r.Base() + settings(away) + anyImage("") })
	token := "eyJhbGciOiJFZERTQSIsImtpZCI6IjEifQ." +
		"eyJpc3MiOiJpIiwiYXVkIjoicHVsbGdhdGUiLCJzdWIiOiJhIn0." + strings.Repeat("A", 86)
	ask := func() int {
		t.Helper()
		q, err := http.NewRequest(http.MethodGet, "http://"+r.Gate+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.SetBasicAuth("x", token)
		status, _ := rig.Do(t, q)
		return status
	}
	if status := ask(); status != http.StatusServiceUnavailable {
		t.Errorf("an issuer that is away: status %d, want 503", status)
	}
	if status := r.Pull(t, signedOne); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d", status)
	}
	r.UntilLogged(t, "the keys of the OIDC issuer could not be fetched")

	rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"), strings.Replace(r.Config, away, server.URL, 1))
	until(t, "the other issuer's keys are used", func() bool { return ask() == http.StatusUnauthorized })
	was := asked.Load()
	rig.Replace(t, filepath.Join(r.Dir, "pullgate.yaml"), strings.Replace(r.Config, away, server.URL, 1)+"mode: warn\n")
	r.UntilLogged(t, "the whole gate is in warn mode")
	if status := ask(); status != http.StatusUnauthorized || asked.Load() != was {
		t.Errorf("status %d; another change had the keys fetched again: %d", status, asked.Load()-was)
	}
}
