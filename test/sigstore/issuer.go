package sigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The issuers whose tokens Fulcio takes. Two have real names, because
// verifiers know these by default; nothing ever asks the real ones.
const (
	Accounts = "https://accounts.acme.example"
	Actions  = "https://token.actions.githubusercontent.com"
	GitLab   = "https://gitlab.com"
)

var issuers = []string{Accounts, Actions, GitLab}

// issuer makes identity tokens and is, to Fulcio, every one of the issuers: it
// is the HTTPS proxy through which Fulcio looks for their keys.
type issuer struct {
	key    *rsa.PrivateKey // cosign takes nothing but RS256 on its command line
	tls    *tls.Config
	ca     []byte // what a client of the proxy must trust, PEM
	tunnel *tunnel
}

func newIssuer() (*issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range issuers {
		names = append(names, strings.TrimPrefix(i, "https://"))
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "issuers"},
		DNSNames:              names,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := certify(template, template, serverKey, serverKey)
	if err != nil {
		return nil, fmt.Errorf("make the issuers' TLS certificate: %w", err)
	}
	i := &issuer{
		key:    key,
		ca:     Chain(cert),
		tunnel: &tunnel{conns: make(chan net.Conn), done: make(chan struct{})},
		tls:    &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: serverKey}}},
	}
	return i, nil
}

// ServeHTTP is the proxy: it opens a tunnel to an issuer, and to nobody else.
func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil || port != "443" || !slices.Contains(issuers, "https://"+host) {
		http.Error(w, "only the issuers of this stack are reached through here", http.StatusForbidden)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
		_ = conn.Close() // it is broken already
		return
	}
	i.tunnel.pass(tls.Server(conn, i.tls))
}

// discovery answers what Fulcio asks of an issuer: where its keys are, and the keys.
func (i *issuer) discovery() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		self := "https://" + r.Host
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer":                                self,
			"jwks_uri":                              self + "/keys",
			"authorization_endpoint":                self + "/auth",
			"token_endpoint":                        self + "/token",
			"response_types_supported":              []string{"code"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
			"kty": "RSA",
			"kid": "1",
			"alg": "RS256",
			"use": "sig",
			"n":   encode(i.key.N.Bytes()),
			"e":   encode(big.NewInt(int64(i.key.E)).Bytes()),
		}}})
	})
	return mux
}

// token signs claims for an hour, in the name of one of the issuers.
func (i *issuer) token(from string, claims map[string]any) (string, error) {
	now := time.Now()
	all := map[string]any{
		"iss": from,
		"aud": "sigstore",
		"iat": now.Unix(),
		"nbf": now.Add(-time.Minute).Unix(),
		"exp": now.Add(time.Hour).Unix(),
	}
	for k, v := range claims {
		all[k] = v
	}
	body, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	signed := encode([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." + encode(body)
	hash := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, hash[:])
	return signed + "." + encode(signature), err
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// tunnel is the listener of the connections that came through the proxy.
type tunnel struct {
	conns chan net.Conn
	done  chan struct{}
}

func (t *tunnel) pass(c net.Conn) {
	select {
	case t.conns <- c:
	case <-t.done:
		_ = c.Close() // the stack goes down
	}
}

func (t *tunnel) Accept() (net.Conn, error) {
	select {
	case c := <-t.conns:
		return c, nil
	case <-t.done:
		return nil, net.ErrClosed
	}
}

// Close is called once, by the server that accepts from it.
func (t *tunnel) Close() error {
	close(t.done)
	return nil
}

func (t *tunnel) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
