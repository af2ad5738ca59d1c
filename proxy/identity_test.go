package proxy_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullgate/pullgate/proxy/clients"
)

const passwordHere = "correct-horse"

// passwords knows the users, who share one password.
func passwords(t *testing.T, users ...string) *clients.Passwords {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(passwordHere), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	all := clients.Users{}
	for _, user := range users {
		all[user] = hash
	}
	return clients.NewPasswords(all)
}

// askAs asks over TLS with a user's password; without a user it shows nothing.
func askAs(handler http.Handler, method, path, user, password string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	r.TLS = &tls.ConnectionState{}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

// A client that is not known is told nothing: the same for every route, whether
// there is anything behind it or not.
func TestUnidentified(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) { o.help = "Ask platform@acme.example." })
	image := r.signed("v1")
	handler := authenticated(r, clients.New(clients.Config{Passwords: passwords(t, "ci")}).Authenticate)
	if w := askAs(handler, http.MethodGet, manifests("prod/app", "v1"), "ci", passwordHere); w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	r.reg.Forget()
	r.record.drain()

	var answers []string
	for _, shown := range []struct{ user, password string }{{}, {"ci", "guess-77"}, {"stranger", passwordHere}} {
		answers = answers[:0]
		for _, path := range []string{
			"/v2/",
			"/",
			"/v2",
			manifests("prod/app", "v1"),
			manifests("prod/app", image.Digest),
			manifests("prod/app", "none"),
			manifests("closed/app", "v1"),
			blobs("prod/app", image.Layers[0]),
			"/v2/reg.example/prod/app/tags/list",
			"/v2/reg.example/prod/app/referrers/" + image.Digest.String(),
			"/v2/unknown.example/app/manifests/v1",
			"/v2/reg.example/prod/app/manifests/%2e",
			"/v2/x/manifests/v1?ns=a&ns=b",
		} {
			for _, method := range []string{
				http.MethodGet,
				http.MethodHead,
				http.MethodPut,
				http.MethodPost,
				http.MethodPatch,
				http.MethodDelete,
				http.MethodOptions,
			} {
				w := askAs(handler, method, path, shown.user, shown.password)
				header := w.Header()
				if w.Code != http.StatusUnauthorized || header.Get("WWW-Authenticate") != `Basic realm="pullgate"` {
					t.Fatalf("%s %s: status %d, %v: %s", method, path, w.Code, header, w.Body)
				}
				if header.Get("Pullgate-Decision") != "" || header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s %s: %v", method, path, header)
				}
				if method != http.MethodHead {
					answers = append(answers, w.Body.String())
				}
			}
		}
		if answers = slices.Compact(answers); len(answers) != 1 {
			t.Errorf("the answers differ: %q", answers)
		}
	}

	var body struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(answers[0]), &body); err != nil || len(body.Errors) != 1 ||
		body.Errors[0].Code != "UNAUTHORIZED" ||
		!strings.HasSuffix(body.Errors[0].Message, " Ask platform@acme.example.") {
		t.Errorf("%v, %s", err, answers[0])
	}
	if asked := r.reg.Requests(); len(asked) > 0 {
		t.Errorf("the registry was asked %v", asked)
	}
	if list := r.record.drain(); len(list) > 0 {
		t.Errorf("recorded %+v", list)
	}
	if text := r.log.String(); !strings.Contains(text, "outcome=unidentified") ||
		strings.Contains(text, passwordHere) ||
		strings.Contains(text, "guess-77") {
		t.Errorf("log: %.500s", text)
	}
}

// Where a certificate is the only way, a challenge would have clients ask for a
// password in vain.
func TestCertificateAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) { o.help = "Ask us." })
	r.signed("v1")
	known := clients.NewCertificates(nil)
	handler := authenticated(r, clients.New(clients.Config{Certificates: known}).Authenticate)
	for path, status := range map[string]int{
		"/v2/":                               http.StatusUnauthorized,
		manifests("prod/app", "v1"):          http.StatusForbidden,
		manifests("prod/app", "none"):        http.StatusForbidden,
		"/v2/reg.example/prod/app/tags/list": http.StatusForbidden,
		"/v2/unknown.example/a/manifests/v1": http.StatusForbidden,
		"/":                                  http.StatusForbidden,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut} {
			w := askAs(handler, method, path, "ci", passwordHere)
			if w.Code != status || w.Header().Get("WWW-Authenticate") != "" ||
				w.Header().Get("Pullgate-Decision") != "" {
				t.Errorf("%s %s: status %d, %v", method, path, w.Code, w.Header())
			}
			if text := w.Body.String(); method != http.MethodHead && !strings.Contains(text, "client certificate") ||
				strings.Contains(
					text,
					"decision",
				) || !strings.HasSuffix(text, `. Ask us."}]}`) && method != http.MethodHead {
				t.Errorf("%s %s: %s", method, path, text)
			}
		}
	}
	if asked := r.reg.Requests(); len(asked) > 0 {
		t.Errorf("the registry was asked %v", asked)
	}
}

// The client's name is in the log and in the record; its password is nowhere, and
// goes to no registry.
func TestClientName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	handler := authenticated(r, clients.New(clients.Config{Passwords: passwords(t, "ci")}).Authenticate)
	w := askAs(handler, http.MethodGet, manifests("prod/app", image.Digest), "ci", passwordHere)
	if w.Code != http.StatusForbidden {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	list := r.record.drain()
	if len(list) != 1 || list[0].ClientName != "user:ci" || list[0].Client != "192.0.2.1" {
		t.Errorf("recorded %+v", list)
	}
	if text := r.log.String(); !strings.Contains(text, "client_name=user:ci") || strings.Contains(text, passwordHere) {
		t.Errorf("log: %s", text)
	}
	for _, asked := range r.reg.Requests() {
		if asked.Header.Get("Authorization") != "" {
			t.Errorf("the registry was sent %v", asked.Header)
		}
	}
	if text := w.Body.String(); strings.Contains(text, passwordHere) {
		t.Errorf("the client is told its password: %s", text)
	}
}

// What one client's policy admits is not admitted to another by it: neither from
// memory, nor as a part, nor by a question that both ask at once.
func TestClientsApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(`
- {name: trusted, images: ["reg.example/**"], clients: ["user:a"], static: allow}
- {name: signed, images: ["reg.example/**"], clients: ["user:b", "user:c"], authorities: [{name: release, key: KEY}]}
- {name: near, images: ["reg.example/**"], clients: ["10.0.0.0/8"], static: deny}
`))
	image := r.reg.PushImage("app", "v1") // nobody has signed it
	child := r.reg.PushImage("app", "")
	index := r.reg.PushIndex("app", "multi", child.Digest)
	handler := authenticated(r, clients.New(clients.Config{Passwords: passwords(t, "a", "b", "c", "d")}).Authenticate)
	paths := []string{
		manifests("app", "v1"),
		manifests("app", image.Digest),
		manifests("app", index),
		manifests("app", child.Digest),
		blobs("app", image.Config),
		blobs("app", image.Layers[0]),
		blobs("app", child.Layers[0]),
		"/v2/reg.example/app/tags/list",
	}
	want := map[string]int{"a": http.StatusOK, "b": http.StatusForbidden, "d": http.StatusForbidden}

	t.Run("at once", func(t *testing.T) {
		var all sync.WaitGroup
		for user, status := range want {
			for range 20 {
				all.Go(func() {
					if w := askAs(handler, http.MethodGet, paths[0], user, passwordHere); w.Code != status {
						t.Errorf("%s: status %d: %s", user, w.Code, w.Body)
					}
				})
			}
		}
		all.Wait()
	})

	t.Run("one after the other", func(t *testing.T) {
		for range 2 {
			for _, path := range paths {
				for _, user := range []string{"a", "b", "d"} {
					status := want[user]
					if user == "b" && strings.HasSuffix(path, "/tags/list") {
						status = http.StatusOK // some image of it might be signed
					}
					if w := askAs(handler, http.MethodGet, path, user, passwordHere); w.Code != status {
						t.Errorf("%s: %s: status %d: %s", user, path, w.Code, w.Body)
					}
				}
			}
		}
	})

	t.Run("verdicts of one policy are shared", func(t *testing.T) {
		signed := r.reg.PushImage("app", "v2")
		r.reg.Sign("app", signed.Digest, r.key)
		if w := askAs(
			handler,
			http.MethodGet,
			manifests("app", signed.Digest),
			"b",
			passwordHere,
		); w.Code != http.StatusOK {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		r.reg.Forget()
		if w := askAs(
			handler,
			http.MethodGet,
			manifests("app", signed.Digest),
			"c",
			passwordHere,
		); w.Code != http.StatusOK {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
		if asked := r.reg.Requests(); len(asked) > 0 {
			t.Errorf("the registry was asked %v", asked)
		}
	})
}

// Policies see the address that a trusted proxy has named, and no other.
func TestClientsAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(`
- {name: near, images: ["reg.example/**"], clients: ["10.0.0.0/8"], static: allow}
- {name: far, images: ["reg.example/**"], static: deny}
`))
	r.reg.PushImage("app", "v1")
	proxies := clients.Proxies{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	handler := authenticated(r, clients.New(clients.Config{Proxies: proxies}).Authenticate)
	for _, row := range []struct {
		peer, forwarded string
		status          int
	}{
		{"10.1.2.3:1", "", http.StatusOK},
		{"198.51.100.1:1", "", http.StatusForbidden},
		{"198.51.100.1:1", "10.1.2.3", http.StatusForbidden}, // no proxy
		{"192.0.2.1:1", "10.1.2.3", http.StatusOK},
		{"192.0.2.1:1", "10.1.2.3, 198.51.100.1", http.StatusForbidden}, // spoofed
		{"192.0.2.1:1", "rubbish", http.StatusBadRequest},
	} {
		q := httptest.NewRequest(http.MethodGet, manifests("app", "v1"), nil)
		q.RemoteAddr = row.peer
		if row.forwarded != "" {
			q.Header.Set("X-Forwarded-For", row.forwarded)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, q)
		if w.Code != row.status {
			t.Errorf("%s for %q: status %d, want %d: %s", row.peer, row.forwarded, w.Code, row.status, w.Body)
		}
	}
}
