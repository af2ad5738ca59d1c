package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
	"github.com/pullgate/pullgate/verify/oci"
)

// Every secret of these tests holds this word, so that one search finds any.
const mark = "s3cr3t"

const (
	testUser     = "robot"
	testPassword = "pass-" + mark
)

var (
	repo      = policy.Repository{Host: "registry.example", Path: "acme/app"}
	plenty    = int64(1 << 20)
	someBytes = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`)
	someHash  = digest.FromBytes(someBytes)
)

const ociManifest = "application/vnd.oci.image.manifest.v1+json"

// authority signs the certificates of every TLS server here.
var authority = sync.OnceValues(func() (*x509.Certificate, *ecdsa.PrivateKey) {
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
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert, key
})

func roots() *tls.Config {
	ca, _ := authority()
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{RootCAs: pool}
}

func certificate(t *testing.T, host string) tls.Certificate {
	t.Helper()
	ca, caKey := authority()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{host},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// seen is one request as it reached a server.
type seen struct {
	method, host, uri string // uri as on the wire
	header            http.Header
	form              url.Values
}

// site is a server under a name of its own. Names are needed because all
// servers of a machine share one address, and rules about hosts would never
// tell them apart.
type site struct {
	name    string // host[:port] as URLs have it
	url     string // scheme://name
	address string // where it really listens

	mu   sync.Mutex
	seen []seen
}

func (s *site) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// to are the requests whose path starts so.
func (s *site) to(prefix string) []seen {
	var found []seen
	for _, r := range s.requests() {
		if strings.HasPrefix(r.uri, prefix) {
			found = append(found, r)
		}
	}
	return found
}

// credentialsSeen are the Authorization headers and form secrets a site got.
func (s *site) credentialsSeen() []string {
	var found []string
	for _, r := range s.requests() {
		found = append(found, r.header.Values("Authorization")...)
		for _, values := range [][]string{r.form["refresh_token"], r.form["password"]} {
			found = append(found, values...)
		}
	}
	return found
}

// serve starts a server. name "" means its own address; scheme is http or
// https. The handler gets the path as it came: no mux cleans it.
func serve(t *testing.T, scheme, name string, h http.HandlerFunc) *site {
	t.Helper()
	s := &site{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // a body that is no form leaves it empty
		s.mu.Lock()
		s.seen = append(s.seen, seen{r.Method, r.Host, r.RequestURI, r.Header.Clone(), r.PostForm})
		s.mu.Unlock()
		h(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if scheme == "https" {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate(t, strings.Split(name, ":")[0])}}
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	s.address = server.Listener.Addr().String()
	s.name = name
	if name == "" {
		s.name = s.address
	}
	s.url = scheme + "://" + s.name
	return s
}

// open makes an upstream of base that finds the sites by their names. Rules
// about addresses are not in force for it; rules about names are.
func open(t *testing.T, base string, auth Auth, sites ...*site) *Upstream {
	t.Helper()
	u := openBare(t, base, auth)
	find := finder(sites...)
	for _, rt := range []http.RoundTripper{u.direct, u.away} {
		rt.(*http.Transport).DialContext = find
	}
	return u
}

func openBare(t *testing.T, base string, auth Auth) *Upstream {
	t.Helper()
	return openWith(t, base, Config{Auth: auth})
}

// openWith is openBare with what else c says.
func openWith(t *testing.T, base string, c Config) *Upstream {
	t.Helper()
	at, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	c.Host, c.URL, c.TLS, c.UserAgent = "registry.example", at, roots(), "pullgate/test"
	u, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range []http.RoundTripper{u.direct, u.away} {
		rt.(*http.Transport).Proxy = nil // whatever the environment says
	}
	t.Cleanup(u.Close)
	return u
}

func finder(sites ...*site) func(context.Context, string, string) (net.Conn, error) {
	where := map[string]string{}
	for _, s := range sites {
		name := s.name
		if !strings.Contains(name, ":") {
			name += map[bool]string{true: ":443", false: ":80"}[strings.HasPrefix(s.url, "https:")]
		}
		where[name] = s.address
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		to, ok := where[address]
		if !ok {
			return nil, fmt.Errorf("no test server is called %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	overwrite(t, name, text)
	return name
}

func overwrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func basicCredentials(t *testing.T) Auth {
	t.Helper()
	return basicFrom(t, file(t, testPassword+"\n"))
}

// basicFrom is the test user with the password that a file holds.
func basicFrom(t *testing.T, passwordFile string) Auth {
	t.Helper()
	source, err := credentials.NewBasic(testUser, passwordFile)
	if err != nil {
		t.Fatal(err)
	}

	return Auth{Source: source}
}

// dockerFrom is what a Docker config holds for a registry at an address.
func dockerFrom(t *testing.T, address, configFile string) Auth {
	t.Helper()
	registry := credentials.Registry{Host: "registry.example", Address: address}
	source, err := credentials.NewDockerConfig(configFile, registry)
	if err != nil {
		t.Fatal(err)
	}

	return Auth{Source: source}
}

func basicHeaderOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// noSecret fails when an error's text, or that of any error inside it, shows a
// password or a token.
func noSecret(t *testing.T, err error) {
	t.Helper()
	for ; err != nil; err = errors.Unwrap(err) {
		text := err.Error() + fmt.Sprintf("%+v %#v", err, err)
		if strings.Contains(text, mark) ||
			strings.Contains(text, strings.TrimPrefix(basicHeaderOf(testUser, testPassword), "Basic ")) {
			t.Errorf("an error shows a secret: %s", text)
		}
	}
}

// wantUpstream checks that err is an UpstreamError of that status, of this
// registry, and without a secret in its text.
func wantUpstream(t *testing.T, err error, status int) *oci.UpstreamError {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want an UpstreamError %d", status)
	}
	noSecret(t, err)
	var e *oci.UpstreamError
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T); want an UpstreamError %d", err, err, status)
	}
	if e.Status != status {
		t.Fatalf("status %d (%v); want %d", e.Status, err, status)
	}
	if e.Host != "registry.example" {
		t.Errorf("host %q; want the familiar one", e.Host)
	}
	return e
}

func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v; want %q in it", err, text)
	}
}

// referred is the image that the text refers to in repo.
func referred(t *testing.T, reference string) policy.Image {
	t.Helper()
	ref, err := policy.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	return policy.Image{Repository: repo, Reference: ref}
}

func sendManifest(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", ociManifest)
	_, _ = w.Write(b)
}

func sendBlob(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(b)
}

func always(status int, header map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			w.Header()[k] = []string{v}
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// cut ends a connection in the middle of an answer.
func cut(w http.ResponseWriter, after string) {
	if after != "" {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, after)
		_ = http.NewResponseController(w).Flush()
	}
	panic(http.ErrAbortHandler)
}

func sendIndex(w http.ResponseWriter, next string, descriptors ...string) {
	w.Header().Set("Content-Type", indexType)
	if next != "" {
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	_, _ = io.WriteString(w, `{"schemaVersion":2,"manifests":[`+strings.Join(descriptors, ",")+`]}`)
}

func blob(u *Upstream, ctx context.Context) ([]byte, error) {
	return u.Blob(ctx, repo, someHash, plenty)
}

func manifestOf(t *testing.T, u *Upstream) error {
	t.Helper()
	m, err := u.Manifest(t.Context(), repo.Tagged("latest"), plenty)
	if err == nil && (string(m.Bytes) != string(someBytes) || m.Digest != someHash) {
		t.Errorf("got %q, %s", m.Bytes, m.Digest)
	}
	return err
}

func mustManifest(t *testing.T, u *Upstream) {
	t.Helper()
	if err := manifestOf(t, u); err != nil {
		noSecret(t, err)
		t.Fatal(err)
	}
}

func blobHandler(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { sendBlob(w, b) }
}

func manifestHandler(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, b) }
}
