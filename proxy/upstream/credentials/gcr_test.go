package credentials

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	gcrRegistry = "europe-docker.pkg.dev"
	googleToken = "oauth2.googleapis.com"
	machine     = "169.254.169.254" // only as a name in a test's world
)

var rsaKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
})

// serviceAccount is the text of a service account's key.
func serviceAccount(t *testing.T, name string) string {
	t.Helper()
	text, err := json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     "acme",
		"private_key_id": "key-" + mark,
		"private_key":    rsaKey(),
		"client_email":   name + "@acme.iam.gserviceaccount.com",
		"token_uri":      "https://" + googleToken + "/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// googleTokens gives an access token for any service account's assertion.
func googleTokens(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	parts := strings.Split(r.Form.Get("assertion"), ".")
	if len(parts) != 3 {
		reply(400, `{"error":"invalid_grant"}`)(w, r)
		return
	}
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Issuer string `json:"iss"`
		Scope  string `json:"scope"`
	}
	_ = json.Unmarshal(payload, &claims)
	if claims.Scope != gcrScope {
		reply(400, `{"error":"invalid_scope"}`)(w, r)
		return
	}
	reply(200, fmt.Sprintf(`{"access_token":"token-%s-of-%s","expires_in":3600,"token_type":"Bearer"}`, mark,
		claims.Issuer))(w, r)
}

func mustGCR(t *testing.T, w *world, file string, now func() time.Time) Source {
	t.Helper()
	source, err := NewGCR(at(gcrRegistry), file, Cloud{Transport: w, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestGCRHosts(t *testing.T) {
	bareEnvironment(t)
	for _, host := range []string{
		"gcr.io", "us.gcr.io", "EU.gcr.io", "asia.gcr.io:443", gcrRegistry, "us-central1-docker.pkg.dev",
	} {
		if _, err := NewGCR(at(host), "", Cloud{}); err != nil {
			t.Error(err)
		}
	}

	others := append(lookalikes("gcr.io"), lookalikes(gcrRegistry)...)
	for _, host := range append(others, "evil-pkg.dev", "evil-docker.evil-pkg.dev", "pkg.dev", "docker.pkg.dev",
		"evil-gcr.io", "mirror.gcr.io.evil.example", "europe-docker.pkg.dev.evil.example", "www.google.com",
		"europe-npm.pkg.dev", "-docker.pkg.dev", "ghcr.io") {
		if _, err := NewGCR(at(host), "", Cloud{}); err == nil {
			t.Errorf("%q is taken for a registry of Google's", host)
		}
	}
	if _, err := NewGCR(Registry{Address: "gcr.io", ImpliedPort: "80"}, "", Cloud{}); err == nil {
		t.Error("http is taken")
	}
}

// On a machine of Google's, the metadata service gives a token, and one that is
// away for a while is asked again: it comes up later than a pod does.
func TestGCRMachine(t *testing.T) {
	bareEnvironment(t)
	c := newClock()
	up, asked := false, 0
	w := &world{services: map[string]http.HandlerFunc{machine: func(w http.ResponseWriter, r *http.Request) {
		if !up || r.Header.Get("Metadata-Flavor") != "Google" || r.URL.Query().Get("scopes") != gcrScope {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		asked++
		reply(200, fmt.Sprintf(`{"access_token":"token-%s-%d","expires_in":300}`, mark, asked))(w, r)
	}}}
	source := mustGCR(t, w, "", c.now)
	_, err := source.Get(t.Context(), repo)
	wantError(t, err, "the metadata service gives no access token: it answered 403")
	if identityOf(err) != "the machine's service account" {
		t.Errorf("it is about %q", identityOf(err))
	}

	up = true
	c.move(renewPause)
	got := mustGet(t, source)
	if got.Username != "oauth2accesstoken" || got.Password != "token-"+mark+"-1" {
		t.Errorf("user %q", got.Username)
	}
	c.move(4 * time.Minute) // of five
	mustGet(t, source)
	settle(t, source.(*renewing))
	if got := mustGet(t, source).Password; got != "token-"+mark+"-2" {
		t.Error("the token is not renewed ahead")
	}
}

// Two entries with two files are two accounts, and never the other.
func TestGCRFiles(t *testing.T) {
	bareEnvironment(t)
	w := &world{services: map[string]http.HandlerFunc{googleToken: googleTokens}}
	t.Setenv(gcrFile, file(t, serviceAccount(t, "env")))
	accounts := map[string]Source{
		"one": mustGCR(t, w, file(t, serviceAccount(t, "one")), nil),
		"two": mustGCR(t, w, file(t, serviceAccount(t, "two")), nil),
		"env": mustGCR(t, w, "", nil),
	}
	for range 2 {
		for name, source := range accounts {
			if got := mustGet(t, source).Password; got != "token-"+mark+"-of-"+name+"@acme.iam.gserviceaccount.com" {
				t.Errorf("%s is shown another's token", name)
			}
		}
	}
	if n := len(w.to(googleToken)); n != 3 {
		t.Errorf("%d tokens; want 3", n)
	}
}

// A rotated key is used at the next renewal.
func TestGCRRotation(t *testing.T) {
	bareEnvironment(t)
	c := newClock()
	w := &world{services: map[string]http.HandlerFunc{googleToken: googleTokens}}
	name := file(t, serviceAccount(t, "old"))
	source := mustGCR(t, w, name, c.now)
	mustGet(t, source)
	overwrite(t, name, serviceAccount(t, "new"))
	c.move(400 * 24 * time.Hour) // the library tells the token's end by the real time
	if got := mustGet(t, source).Password; !strings.Contains(got, "-of-new@") {
		t.Error("the old key is used")
	}
}

// What is wrong with a file is said at load time, and no part of it is.
func TestGCRFileRefusals(t *testing.T) {
	bareEnvironment(t)
	for _, tt := range []struct{ name, file, want string }{
		{"missing", filepath.Join(t.TempDir(), "missing"), "missing"},
		{"a directory", t.TempDir(), "read Google's credentials"},
		{"not JSON", file(t, "key-"+mark), "no file of Google's credentials"},
		{"no type", file(t, `{"private_key":"key-`+mark+`"}`), "its type must be"},
		{"a person's", file(t, `{"type":"external_account_authorized_user","x":"`+mark+`"}`), "its type must be"},
		{"large", file(t, strings.Repeat(" ", maxGCRFile)+mark), "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewGCR(at(gcrRegistry), tt.file, Cloud{})
			wantError(t, err, tt.want)
		})
	}
}

func TestGCRRefusals(t *testing.T) {
	bareEnvironment(t)
	key := file(t, serviceAccount(t, "puller"))
	broken := file(t, strings.ReplaceAll(serviceAccount(t, "puller"), "MII", mark))
	for _, tt := range []struct {
		name    string
		file    string
		service http.HandlerFunc
		want    string
	}{
		{
			"refused", key, reply(400, `{"error":"invalid_grant","error_description":"key-`+mark+`"}`),
			"refused (invalid_grant)",
		},
		{"no code", key, reply(403, `key-`+mark), "it answered 403"},
		{"a code that is none", key, reply(401, `{"error":"key-`+mark+`"}`), "it answered 401"},
		{"redirect", key, redirect("https://evil.example/"), "no access token came from Google"},
		{"no token", key, reply(200, `{"expires_in":3600}`), "Google"},
		{
			"control characters", key, reply(200, `{"access_token":"a\r\nX: `+mark+`","expires_in":3600}`),
			"no access token",
		},
		{"no key", broken, googleTokens, "the key, or its configuration, cannot be used"},
		{"machine without account", "", reply(404, mark), "has no service account"},
		{"machine's garbage", "", reply(200, mark), "cannot be read"},
		{"machine's empty answer", "", reply(200, "{}"), "no access token"},
		{"machine redirects", "", redirect("https://evil.example/"), "it answered 307"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{services: map[string]http.HandlerFunc{
				googleToken:    tt.service,
				machine:        tt.service,
				"evil.example": reply(200, `{"access_token":"x","expires_in":3600}`),
			}}
			source := mustGCR(t, w, tt.file, nil)
			_, err := source.Get(t.Context(), repo)
			wantError(t, err, tt.want)
			w.never(t, "evil.example")
			if tt.file != "" && identityOf(err) != "service account puller@acme.iam.gserviceaccount.com" {
				t.Errorf("it is about %q", identityOf(err))
			}
		})
	}
}
