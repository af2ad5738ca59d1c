package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullgate/pullgate/policy"
)

// patience bounds every wait for something that happens.
const patience = 30 * time.Second

// passwordOf makes a user's password easy to know; its hash is cheap.
func passwordOf(user string) string { return "secret-of-" + user }

func passwords(t testing.TB, users ...string) *Passwords {
	t.Helper()
	all := Users{}
	for _, user := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(passwordOf(user)), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		all[user] = hash
	}
	return NewPasswords(all)
}

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.certificate = issue(t, &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, &a.key.PublicKey, nil, a.key)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs a certificate; without a parent it signs itself.
func issue(
	t testing.TB,
	of *x509.Certificate,
	public *ecdsa.PublicKey,
	parent *x509.Certificate,
	key *ecdsa.PrivateKey,
) *x509.Certificate {
	t.Helper()
	of.SerialNumber = big.NewInt(time.Now().UnixNano())
	if parent == nil {
		parent = of
	}
	der, err := x509.CreateCertificate(rand.Reader, of, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// client issues a client's certificate, changed as asked.
func (a *authority) client(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "node-1.prod"},
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	return issue(t, c, &newKey(t).PublicKey, a.certificate, a.key)
}

func (a *authority) certificates() *Certificates {
	return NewCertificates([]*x509.Certificate{a.certificate})
}

// asked is a request over TLS, changed as asked.
func asked(change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://gate.example/v2/", nil)
	r.RemoteAddr = "192.0.2.7:4711"
	for _, c := range change {
		c(r)
	}
	return r
}

func login(user, password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

func shows(chain ...*x509.Certificate) func(*http.Request) {
	return func(r *http.Request) { r.TLS = &tls.ConnectionState{PeerCertificates: chain} }
}

func plain(r *http.Request) { r.TLS = nil }

func networks(t testing.TB, texts ...string) []netip.Prefix {
	t.Helper()
	var list []netip.Prefix
	for _, text := range texts {
		n, err := policy.ParseNetwork(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

func mustURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// refusal is what a client that is not known is told.
func refusal(t testing.TB, err error) *RefusedError {
	t.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("%v is no refusal of the client", err)
	}
	return refused
}

// Every way counts, alone and beside others, and nothing else does.
func TestWays(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	certificate := ca.client(t, nil)
	issuer := newIssuer(t)
	token := issuer.token(t, nil)
	show := func(f ...func(*http.Request)) []func(*http.Request) { return f }

	none, basic := Config{}, Config{Passwords: passwords(t, "ci")}
	mtls, oidc := Config{Certificates: ca.certificates()}, Config{Tokens: issuer.tokens(t)}
	all := Config{Passwords: basic.Passwords, Certificates: mtls.Certificates, Tokens: oidc.Tokens}
	const account = "sub:system:serviceaccount:prod:puller"
	right, wrong := login("ci", passwordOf("ci")), login("ci", "guess")
	for name, row := range map[string]struct {
		config Config
		shown  []func(*http.Request)
		name   string // "": refused, unless the config is none
		says   string
	}{
		"none":                         {config: none},
		"none, password":               {config: none, shown: show(right)},
		"basic, nothing":               {config: basic, says: "log in with user and password"},
		"basic, right":                 {config: basic, shown: show(right), name: "user:ci"},
		"basic, wrong":                 {config: basic, shown: show(wrong), says: "is wrong"},
		"basic, certificate":           {config: basic, shown: show(shows(certificate)), says: "log in"},
		"basic, token":                 {config: basic, shown: show(login("x", token)), says: "is wrong"},
		"mtls, nothing":                {config: mtls, says: "show a client certificate"},
		"mtls, password":               {config: mtls, shown: show(right), says: "show a client certificate"},
		"mtls, certificate":            {config: mtls, shown: show(shows(certificate)), name: "cn:node-1.prod"},
		"mtls, certificate, password":  {config: mtls, shown: show(shows(certificate), wrong), name: "cn:node-1.prod"},
		"oidc, nothing":                {config: oidc, says: "a token as the password"},
		"oidc, token":                  {config: oidc, shown: show(login("any", token)), name: account},
		"oidc, password":               {config: oidc, shown: show(right), says: "token was refused"},
		"all, nothing":                 {config: all, says: "or show a client certificate"},
		"all, right":                   {config: all, shown: show(right), name: "user:ci"},
		"all, wrong":                   {config: all, shown: show(wrong), says: "is wrong"},
		"all, token":                   {config: all, shown: show(login("", token)), name: account},
		"all, certificate":             {config: all, shown: show(shows(certificate)), name: "cn:node-1.prod"},
		"all, certificate, and login":  {config: all, shown: show(shows(certificate), right), name: "user:ci"},
		"all, certificate, and wrong":  {config: all, shown: show(shows(certificate), wrong), says: "is wrong"},
		"bearer":                       {config: all, shown: show(authorization("Bearer " + token)), says: "Basic"},
		"no base64":                    {config: all, shown: show(authorization("Basic ***")), says: "Basic"},
		"empty header":                 {config: all, shown: show(authorization("")), says: "Basic"},
		"two headers":                  {config: all, shown: show(wrong, authorizationToo(right)), says: "Basic"},
		"two headers, the right first": {config: all, shown: show(right, authorizationToo(wrong)), says: "Basic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := New(row.config).Authenticate(asked(row.shown...))
			if client.Addr != "192.0.2.7" {
				t.Errorf("it comes from %q", client.Addr)
			}
			if row.says == "" {
				if err != nil || client.Name != row.name {
					t.Errorf("it is %q, %v; want %q", client.Name, err, row.name)
				}
				return
			}

			refused, challenge := refusal(t, err), `Basic realm="pullgate"`
			if row.config.Passwords == nil && row.config.Tokens == nil {
				challenge = ""
			}
			if client.Name != "" || refused.Challenge != challenge || !strings.Contains(refused.Text, row.says) {
				t.Errorf(
					"refused as %q: %q, challenge %q; want %q",
					client.Name,
					refused.Text,
					refused.Challenge,
					row.says,
				)
			}
			if refused.Shown == (len(row.shown) == 0) && !strings.HasPrefix(row.says, "log in") &&
				!strings.HasPrefix(row.says, "show") {
				t.Errorf("shown: %v", refused.Shown)
			}
			for _, secret := range []string{passwordOf("ci"), "guess", token, token[:40]} {
				if strings.Contains(err.Error(), secret) || strings.Contains(refused.Text, secret) {
					t.Errorf("the error holds what was shown: %v", err)
				}
			}
		})
	}
}

func authorization(value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add("Authorization", value) }
}

// authorizationToo adds the header that change would set.
func authorizationToo(change func(*http.Request)) func(*http.Request) {
	other := asked(change)
	return authorization(other.Header.Get("Authorization"))
}

// Secrets over plain http count only where no one else can have read them.
func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	basic := Config{Passwords: passwords(t, "ci"), Proxies: Proxies{Networks: networks(t, "10.0.0.0/24")}}
	from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
	forwarded := func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") }
	right := login("ci", passwordOf("ci"))
	for name, row := range map[string]struct {
		config Config
		shown  []func(*http.Request)
		known  bool
	}{
		"TLS":                     {basic, []func(*http.Request){right}, true},
		"plain":                   {basic, []func(*http.Request){right, plain}, false},
		"plain, this machine":     {basic, []func(*http.Request){right, plain, from("127.0.0.1:1")}, true},
		"plain, this machine, v6": {basic, []func(*http.Request){right, plain, from("[::1]:1")}, true},
		"plain, a proxy":          {basic, []func(*http.Request){right, plain, from("10.0.0.9:1")}, true},
		"plain, no proxy":         {basic, []func(*http.Request){right, plain, from("10.0.1.9:1")}, false},
		"plain, claims to be this machine": {
			basic, []func(*http.Request){right, plain, forwarded}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := New(row.config).Authenticate(asked(row.shown...))
			if row.known && (err != nil || client.Name != "user:ci") {
				t.Errorf("%+v, %v", client, err)
			}
			if !row.known && !strings.Contains(refusal(t, err).Text, "plain http") {
				t.Errorf("%+v, %v", client, err)
			}
		})
	}
}
