package clients

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // for RS384
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer gives out tokens.
type issuer struct {
	url string
	id  string // of its key
	key *rsa.PrivateKey
}

const audienceHere = "pullgate"

// rsaKey is one for all tests: making one takes long.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{url: "https://kubernetes.default.svc", id: "k1", key: key}
}

func (i *issuer) keySet(t testing.TB, more ...jose.JSONWebKey) []byte {
	t.Helper()
	keys := append([]jose.JSONWebKey{{Key: i.key.Public(), KeyID: i.id, Algorithm: "RS256", Use: "sig"}}, more...)
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *issuer) tokens(t testing.TB, more ...jose.JSONWebKey) *Tokens {
	t.Helper()
	keys, err := ParseKeys(i.keySet(t, more...))
	if err != nil {
		t.Fatal(err)
	}
	return NewTokens(TokenConfig{Issuer: i.url, Audience: audienceHere, Keys: keys})
}

func (i *issuer) claims() map[string]any {
	return map[string]any{
		"iss": i.url,
		"aud": []string{audienceHere},
		"sub": "system:serviceaccount:prod:puller",
		"iat": time.Now().Unix(),
		"exp": time.Now().Add(time.Hour).Unix(),
	}
}

// token is one that counts, unless change makes it another.
func (i *issuer) token(t testing.TB, change func(map[string]any)) string {
	t.Helper()
	claims := i.claims()
	if change != nil {
		change(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return i.sign(t, `{"alg":"RS256","kid":"`+i.id+`"}`, string(payload))
}

func encode(text []byte) string { return base64.RawURLEncoding.EncodeToString(text) }

// sign makes a token of any header and payload.
func (i *issuer) sign(t testing.TB, header, payload string) string {
	t.Helper()
	return i.signBy(t, crypto.SHA256, header, payload)
}

func (i *issuer) signBy(t testing.TB, by crypto.Hash, header, payload string) string {
	t.Helper()
	text := encode([]byte(header)) + "." + encode([]byte(payload))
	h := by.New()
	h.Write([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, i.key, by, h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(signature)
}

func hmacToken(secret []byte, header, payload string) string {
	text := encode([]byte(header)) + "." + encode([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// TestTokens: what a token has to be, one by one.
func TestTokens(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	payload := func(change func(map[string]any)) string {
		claims := i.claims()
		if change != nil {
			change(claims)
		}
		text, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	with := func(name string, value any) func(map[string]any) {
		return func(c map[string]any) { c[name] = value }
	}
	good := payload(nil)
	const header = `{"alg":"RS256","kid":"k1"}`
	der, err := x509.MarshalPKIXPublicKey(i.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})

	other := newKey(t)
	foreign := *i
	foreign.key, err = rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := json.Marshal(jose.JSONWebKey{Key: foreign.key.Public(), KeyID: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	ecToken := func(header string) string {
		text := encode([]byte(header)) + "." + encode([]byte(good))
		sum := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, other, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	}
	whole := i.sign(t, header, good)
	parts := strings.Split(whole, ".")

	for name, row := range map[string]struct{ token, says string }{
		"good":            {whole, ""},
		"one audience":    {i.sign(t, header, payload(with("aud", audienceHere))), ""},
		"among audiences": {i.sign(t, header, payload(with("aud", []string{"a", audienceHere}))), ""},
		"without a kid":   {i.sign(t, `{"alg":"RS256"}`, good), ""},
		"by another key":  {ecToken(`{"alg":"ES256","kid":"ec"}`), ""},

		"alg none":                 {encode([]byte(`{"alg":"none","kid":"k1"}`)) + "." + parts[1] + ".", "signature"},
		"alg None":                 {encode([]byte(`{"alg":"None","kid":"k1"}`)) + "." + parts[1] + ".", "signature"},
		"alg none, signed":         {i.sign(t, `{"alg":"none","kid":"k1"}`, good), "signature"},
		"no alg":                   {i.sign(t, `{"kid":"k1"}`, good), "signature"},
		"HS256 by the public key":  {hmacToken(public, `{"alg":"HS256","kid":"k1"}`, good), "signature"},
		"HS256 by its DER":         {hmacToken(der, `{"alg":"HS256","kid":"k1"}`, good), "signature"},
		"HS256 by its modulus":     {hmacToken(i.key.N.Bytes(), `{"alg":"HS256","kid":"k1"}`, good), "signature"},
		"RS384 for a key of RS256": {i.signBy(t, crypto.SHA384, `{"alg":"RS384","kid":"k1"}`, good), "signature"},
		"ES256 for the RSA key":    {ecToken(`{"alg":"ES256","kid":"k1"}`), "signature"},
		"another's kid":            {i.sign(t, `{"alg":"RS256","kid":"ec"}`, good), "signature"},
		"an unknown kid":           {i.sign(t, `{"alg":"RS256","kid":"k9"}`, good), "none of the issuer's"},
		"a foreign key":            {foreign.sign(t, header, good), "signature"},
		"a key in the header":      {foreign.sign(t, `{"alg":"RS256","jwk":`+string(embedded)+`}`, good), "signature"},
		"a critical header": {
			i.sign(t, `{"alg":"RS256","kid":"k1","crit":["b64"],"b64":false}`, good),
			"read in one way",
		},
		"no signature": {parts[0] + "." + parts[1] + ".", "signature"},
		"another's signature": {
			parts[0] + "." + encode([]byte(payload(with("sub", "admin")))) + "." + parts[2],
			"signature",
		},

		"another audience": {i.sign(t, header, payload(with("aud", "vault"))), "another audience"},
		"no audience": {
			i.sign(t, header, payload(func(c map[string]any) { delete(c, "aud") })),
			"another audience",
		},
		"audience's start": {i.sign(t, header, payload(with("aud", "pullgate.evil"))), "another audience"},
		"another issuer":   {i.sign(t, header, payload(with("iss", "https://evil.example"))), "another issuer"},
		"issuer's slash":   {i.sign(t, header, payload(with("iss", i.url+"/"))), "another issuer"},
		"no issuer":        {i.sign(t, header, payload(func(c map[string]any) { delete(c, "iss") })), "another issuer"},
		"ended":            {i.sign(t, header, payload(with("exp", time.Now().Add(-time.Minute).Unix()))), "has ended"},
		"without an end":   {i.sign(t, header, payload(func(c map[string]any) { delete(c, "exp") })), "signature"},
		"not yet": {
			i.sign(t, header, payload(with("nbf", time.Now().Add(time.Hour).Unix()))),
			"does not hold yet",
		},
		"no subject":       {i.sign(t, header, payload(func(c map[string]any) { delete(c, "sub") })), "subject"},
		"empty subject":    {i.sign(t, header, payload(with("sub", ""))), "subject"},
		"subject of lines": {i.sign(t, header, payload(with("sub", "a\nb"))), "subject"},
		"subject, a list":  {i.sign(t, header, payload(with("sub", []string{"a"}))), "read in one way"},

		"a claim twice": {
			i.sign(t, header, strings.Replace(good, `{`, `{"sub":"admin",`, 1)),
			"read in one way",
		},
		"a claim in two cases": {
			i.sign(t, header, strings.Replace(good, `{`, `{"SUB":"admin",`, 1)),
			"read in one way",
		},
		"a claim in another case": {i.sign(t, header, strings.Replace(good, `"aud"`, `"Aud"`, 1)), "read in one way"},
		"a claim folded": {
			i.sign(t, header, strings.Replace(good, `{`, `{"ſub":"admin",`, 1)),
			"read in one way",
		},
		"a header twice":        {i.sign(t, `{"alg":"none","alg":"RS256","kid":"k1"}`, good), "read in one way"},
		"a header in two cases": {i.sign(t, `{"Alg":"none","alg":"RS256","kid":"k1"}`, good), "read in one way"},
		"trailing bytes":        {i.sign(t, header, good+"{}"), "read in one way"},
		"no object":             {i.sign(t, header, `[]`), "read in one way"},
		"padding":               {parts[0] + "." + parts[1] + "=." + parts[2], "read in one way"},
		"white space":           {parts[0] + "." + parts[1] + "\n." + parts[2], "read in one way"},
		"four parts":            {whole + ".x", "read in one way"},
		"two parts":             {parts[0] + "." + parts[1], "read in one way"},
		"in JSON": {
			`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			"read in one way",
		},
		"empty": {"", "read in one way"},
		"large": {
			i.sign(t, header, payload(with("x", strings.Repeat("x", maxToken)))),
			"larger than",
		},
		"deep": {
			i.sign(t, header, `{"x":`+strings.Repeat("[", 50)+strings.Repeat("]", 50)+`,`+good[1:]),
			"read in one way",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := New(Config{Tokens: i.tokens(t, jose.JSONWebKey{Key: other.Public(), KeyID: "ec", Algorithm: "ES256"})})
			for range 2 {
				client, err := a.Authenticate(asked(login("token", row.token)))
				if row.says == "" && (err != nil || client.Name != "sub:system:serviceaccount:prod:puller") {
					t.Errorf("%q, %v", client.Name, err)
				}
				if row.says != "" {
					if text := refusal(t, err).Text; client.Name != "" || !strings.Contains(text, row.says) {
						t.Errorf("%q, %q (%v); want %q", client.Name, text, err, row.says)
					}
				}
			}
		})
	}
}

// go-oidc knows one issuer by two names; the configuration names one.
func TestOtherName(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	i.url = "https://accounts.google.com"
	a := New(Config{Tokens: i.tokens(t)})
	if client, err := a.Authenticate(asked(login("x", i.token(t, nil)))); client.Name == "" {
		t.Error(err)
	}
	token := i.token(t, func(c map[string]any) { c["iss"] = "accounts.google.com" })
	if client, err := a.Authenticate(asked(login("x", token))); err == nil {
		t.Errorf("it is %q", client.Name)
	}
}

// A token that memory knows ends all the same, and its key's going ends it.
func TestTokenMemory(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	tokens := i.tokens(t)
	now := time.Now()
	a := New(Config{Tokens: tokens, Now: func() time.Time { return now }})
	r := asked(login("x", i.token(t, nil)))
	if client, err := a.Authenticate(r); client.Name == "" {
		t.Fatal(err)
	}

	now = now.Add(2 * time.Hour)
	if _, err := a.Authenticate(r); !strings.Contains(refusal(t, err).Text, "has ended") {
		t.Errorf("%v", err)
	}

	now = time.Now()
	ring, err := parseKeyRing(
		[]byte(`{"keys":[` + string(mustJSON(t, jose.JSONWebKey{Key: newKey(t).Public(), KeyID: "k2"})) + `]}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	ring.fetched = now
	tokens.keys.current.Store(ring)
	if _, err := a.Authenticate(r); !strings.Contains(refusal(t, err).Text, "none of the issuer's") {
		t.Errorf("%v", err)
	}
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // too weak, for that
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := func(k any, use string) string {
		return string(mustJSON(t, jose.JSONWebKey{Key: k, KeyID: "k", Use: use}))
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	ec := newKey(t)
	var many []string
	for range maxKeys + 1 {
		many = append(many, key(ec.Public(), ""))
	}
	for name, row := range map[string]struct {
		text string
		n    int
		want string
	}{
		"EC":      {set(key(ec.Public(), "")), 1, ""},
		"Ed25519": {set(key(ed, "sig")), 1, ""},
		"others left out": {
			set(key(ec.Public(), ""), `{"kty":"XX"}`, `{"kty":"EC","crv":"secp256k1","x":"","y":""}`), 1,
			"",
		},
		"secret":     {set(key([]byte("secret of thirty-two bytes or more"), "sig")), 0, "none of its 1 keys"},
		"private":    {set(key(ec, "")), 0, "none of its 1 keys"},
		"encryption": {set(key(ec.Public(), "enc")), 0, "none of its 1 keys"},
		"weak":       {set(key(small.Public(), "")), 0, "none of its 1 keys"},
		"none":       {set(), 0, "none of its 0 keys"},
		"no set":     {`[]`, 0, "no JSON Web Key Set"},
		"PEM":        {"-----BEGIN PUBLIC KEY-----", 0, "no JSON Web Key Set"},
		"many":       {set(many...), 0, "more than 100 keys"},
	} {
		k, err := ParseKeys([]byte(row.text))
		if row.want != "" {
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%s: %v, want %q", name, err, row.want)
			}
			continue
		}
		if err != nil || len(k.ring().keys) != row.n {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// provider is an issuer on loopback whose answers a test changes.
type provider struct {
	*issuer
	server *httptest.Server
	keys   atomic.Pointer[[]byte]
	away   atomic.Bool
	asked  atomic.Int64
	name   atomic.Pointer[string] // by which it calls itself, instead of its own
	at     atomic.Pointer[string] // where its keys are, instead
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{issuer: newIssuer(t)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		name, at := p.url, p.url+"/keys"
		if said := p.name.Load(); said != nil {
			name = *said
		}
		if said := p.at.Load(); said != nil {
			at = *said
		}
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, name, at)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*p.keys.Load()) })
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if p.away.Load() {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.server.Close)
	p.url = p.server.URL
	set := p.keySet(t)
	p.keys.Store(&set)
	return p
}

// run keeps the keys until the test ends.
func (p *provider) run(t *testing.T) (*Tokens, *Keys) {
	t.Helper()
	keys := FetchedKeys(p.url, p.server.Client())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		keys.Run(t.Context(), slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { <-ended })
	return NewTokens(TokenConfig{Issuer: p.url, Audience: audienceHere, Keys: keys}), keys
}

func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %v: %s", patience, what)
}

// An issuer that is away leaves open what its tokens are worth; one that was there
// once does not.
func TestIssuerAway(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	p.away.Store(true)
	tokens, keys := p.run(t)
	a := New(Config{Tokens: tokens})
	r := asked(login("x", p.token(t, nil)))
	within(t, "the issuer is asked", func() bool { return p.asked.Load() > 0 })
	_, err := a.Authenticate(r)
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) {
		t.Fatalf("without keys: %v", err)
	}

	p.away.Store(false)
	within(t, "its keys are fetched", func() bool { return keys.ring() != nil })
	if client, err := a.Authenticate(r); client.Name == "" {
		t.Error(err)
	}
	p.away.Store(true)
	if client, err := a.Authenticate(
		asked(login("x", p.token(t, func(c map[string]any) { c["sub"] = "b" }))),
	); client.Name != "sub:b" {
		t.Errorf("the last good keys are not used: %q, %v", client.Name, err)
	}
}

// A key that is not known has the set fetched again, once in a while.
func TestNewKey(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	tokens, keys := p.run(t)
	within(t, "its keys are fetched", func() bool { return keys.ring() != nil })
	next := newKey(t)
	set := p.keySet(t, jose.JSONWebKey{Key: next.Public(), KeyID: "k2", Algorithm: "ES256"})
	p.keys.Store(&set)
	text := encode([]byte(`{"alg":"ES256","kid":"k2"}`)) + "." + encode(mustJSON(t, p.claims()))
	sum := sha256.Sum256([]byte(text))
	x, y, err := ecdsa.Sign(rand.Reader, next, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	token := text + "." + encode(append(x.FillBytes(make([]byte, 32)), y.FillBytes(make([]byte, 32))...))

	var asks atomic.Int64
	now := time.Now()
	a := New(Config{Tokens: tokens, Now: func() time.Time { return now.Add(time.Duration(asks.Load())) }})
	if _, err := a.Authenticate(
		asked(login("x", token)),
	); !strings.Contains(
		refusal(t, err).Text,
		"none of the issuer's",
	) {
		t.Errorf("keys just fetched: %v", err)
	}
	was := p.asked.Load()

	now = now.Add(fetchAgain)
	_, err = a.Authenticate(asked(login("x", token)))
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) {
		t.Errorf("keys that may be old: %v", err)
	}
	within(t, "the new key is fetched", func() bool { return keys.ring().has("k2") })
	if client, err := a.Authenticate(asked(login("x", token))); client.Name == "" {
		t.Error(err)
	}
	if asked := p.asked.Load() - was; asked != 2 {
		t.Errorf("the issuer was asked %d times, not for its configuration and its keys", asked)
	}
}

// What an issuer answers is bounded, and about itself.
func TestIssuerAnswers(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	for name, row := range map[string]struct {
		change func(*provider)
		want   string
	}{
		"another issuer": {func(p *provider) { p.name.Store(text("https://evil.example")) }, "calls itself"},
		"large":          {func(p *provider) { b := make([]byte, MaxKeySet+1); p.keys.Store(&b) }, "more than"},
		"no keys":        {func(p *provider) { b := []byte(`{"keys":[]}`); p.keys.Store(&b) }, "none of its 0 keys"},
		"a file":         {func(p *provider) { p.at.Store(text("file:///etc/passwd")) }, "unsupported protocol"},
		"no address":     {func(p *provider) { p.at.Store(text("")) }, "unsupported protocol"},
		"away":           {func(p *provider) { p.away.Store(true) }, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProvider(t)
			row.change(p)
			ring, err := FetchedKeys(p.url, p.server.Client()).fetch(t.Context())
			if ring != nil || err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, %v; want %q", ring, err, row.want)
			}
		})
	}

	t.Run("away from https", func(t *testing.T) {
		t.Parallel()
		p := newProvider(t)
		secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/redirects/.well-known/openid-configuration" {
				http.Redirect(w, r, p.url+"/.well-known/openid-configuration", http.StatusFound)
				return
			}
			fmt.Fprintf(w, `{"issuer":"https://%s","jwks_uri":%q}`, r.Host, p.url+"/keys")
		}))
		t.Cleanup(secure.Close)
		for path, want := range map[string]string{"": "no https:// address", "/redirects": "another scheme"} {
			_, err := FetchedKeys(secure.URL+path, secure.Client()).fetch(t.Context())
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", path, err, want)
			}
		}
		if p.asked.Load() > 0 {
			t.Error("the other was asked")
		}
	})
}

func FuzzToken(f *testing.F) {
	i := newIssuer(f)
	f.Add(i.token(f, nil))
	f.Add("a.b.c")
	tokens := i.tokens(f)
	good := i.token(f, nil)
	f.Fuzz(func(t *testing.T, token string) {
		name, err := tokens.name(t.Context(), token, time.Now())
		if err == nil && token != good && !strings.HasPrefix(good, strings.Join(strings.Split(token, ".")[:2], ".")) {
			t.Errorf("%q is %q", token, name)
		}
	})
}
