package cloud

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pullgate/pullgate/test/rig"
)

// accounts is a registry with users. Its token service gives each of them a token,
// and the registry itself says who may read what, as Docker Hub does. Blobs are in
// a store, to which it redirects.
type accounts struct {
	images http.HandlerFunc
	store  *httptest.Server
	self   *httptest.Server
	realm  string // empty: its own

	mu      sync.Mutex
	reads   map[string][]string // user → repositories
	noHead  bool
	blind   string   // a user who is not shown signatures
	guesses int      // wrong passwords
	strayed []string // Authorization headers that the store has seen
}

func newAccounts(t *testing.T, addr string) *accounts {
	t.Helper()
	a := &accounts{images: backend(addr), reads: map[string][]string{
		"alice": {"signed", "multi", "unsigned"},
		"bob":   {"unsigned"},
	}}
	a.store = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.strayed = append(a.strayed, r.Header.Values("Authorization")...)
		a.mu.Unlock()
		a.images(w, r)
	}))
	t.Cleanup(a.store.Close)
	a.self = httptest.NewServer(a)
	t.Cleanup(a.self.Close)
	return a
}

func (a *accounts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		user, password, shown := r.BasicAuth()
		if !shown || password != passwordOf(user) {
			a.mu.Lock()
			a.guesses++
			a.mu.Unlock()
			answer(w, http.StatusUnauthorized, "{}")
			return
		}
		answer(w, http.StatusOK, `{"token":"token-%s-%s","expires_in":300}`, mark, user)
		return
	}

	user, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer token-"+mark+"-")
	if !ok {
		realm := a.realm
		if realm == "" {
			realm = a.self.URL + "/token"
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm=%q,service="accounts"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch repository := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")[0]; {
	case !a.lets(user, repository):
		answer(w, http.StatusForbidden, `{"errors":[{"code":"DENIED"}]}`)
	case a.hides(user) && strings.Contains(r.URL.Path, "/manifests/sha256-"):
		w.WriteHeader(http.StatusNotFound)
	case a.refusesHead() && r.Method == http.MethodHead:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case strings.Contains(r.URL.Path, "/blobs/"):
		http.Redirect(w, r, a.store.URL+r.URL.Path, http.StatusTemporaryRedirect)
	default:
		a.images(w, r)
	}
}

func (a *accounts) lets(user, repository string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, may := range a.reads[user] {
		if may == repository {
			return true
		}
	}
	return false
}

func (a *accounts) refusesHead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.noHead
}

func (a *accounts) hides(user string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return user == a.blind
}

// allow says what a user may read from now on.
func (a *accounts) allow(user string, repositories ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads[user] = repositories
}

func passwordOf(user string) string { return "pass-" + mark + "-" + user }

const private = "private.example"

// passing is a gate that passes credentials through to accounts, and has another
// upstream that it asks by itself.
func passing(t *testing.T, dir string, a *accounts, key string, more string) *rig.Rig {
	t.Helper()
	return rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", key)
		return fmt.Sprintf("listen: %s\nadmin: {listen: %q}\ndrain: 2s\nlog: {level: debug}\nstate: {path: %s/state}\n"+
			"upstreams:\n  - {host: %s, url: %q, auth: {type: passthrough}}\n%s"+
			"policies: [{name: keyed, images: [\"**\"], authorities: [{name: k, key: key.pub}]}]\n",
			r.Gate, r.Admin, dir, private, a.self.URL, more)
	})
}

// as asks the gate with a user's password; an empty user shows nothing.
func as(t *testing.T, r *rig.Rig, user, method, path string) (resp *http.Response) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Gate+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, passwordOf(user))
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp
}

// parts are the paths of an image's parts: the manifest by tag and digest, its
// config and layers, and those of its children.
func parts(t *testing.T, addr, repository string) []string {
	t.Helper()
	status, manifest := rig.Get(t, "http://"+addr+"/v2/"+repository+"/manifests/latest")
	if status != http.StatusOK {
		t.Fatal(status)
	}
	list := []string{repository + "/manifests/latest"}
	kind := "/blobs/"
	if strings.Contains(manifest, `"manifests"`) {
		kind = "/manifests/"
	}
	for rest := manifest; ; {
		_, after, ok := strings.Cut(rest, `"digest":"sha256:`)
		if !ok {
			break
		}
		hex, more, _ := strings.Cut(after, `"`)
		list = append(list, repository+kind+"sha256:"+hex)
		rest = more
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+addr+"/v2/"+list[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(list, repository+"/manifests/"+send(t, req).Header.Get("Docker-Content-Digest"))
}

// What one client was served, no other is who may not read it: not by tag, by
// digest, as a child or a blob, and not while the first one asks for it.
func TestPassthrough(t *testing.T) {
	dir := t.TempDir()
	said := ""
	t.Run("gate", func(t *testing.T) {
		addr, key := rig.Registry(t)
		a := newAccounts(t, addr)
		r := passing(t, dir, a, key, "")
		want := func(user, method, path string, statuses ...int) {
			t.Helper()
			got := as(t, r, user, method, private+"/"+path)
			for _, status := range statuses {
				if got.StatusCode == status {
					return
				}
			}
			t.Errorf("%s of %s for %q is answered %d; want %v", method, path, user, got.StatusCode, statuses)
		}
		all := append(parts(t, addr, "signed"), parts(t, addr, "multi")...)

		t.Run("own right", func(t *testing.T) {
			for _, path := range all {
				want("alice", http.MethodGet, path, http.StatusOK)
				want("alice", http.MethodHead, path, http.StatusOK)
			}
			want("alice", http.MethodGet, "unsigned/manifests/latest", http.StatusForbidden)
			want("alice", http.MethodGet, "signed/tags/list", http.StatusOK)
		})
		t.Run("no right", func(t *testing.T) {
			for _, path := range append(all, "signed/tags/list", "signed/referrers/sha256:"+strings.Repeat("0", 64)) {
				want("bob", http.MethodGet, path, http.StatusForbidden)
				want("mallory", http.MethodGet, path, http.StatusForbidden)
				want("", http.MethodGet, path, http.StatusUnauthorized)
			}
		})
		t.Run("at once", func(t *testing.T) {
			var group sync.WaitGroup
			for range 25 {
				for _, path := range []string{all[0], all[1], all[len(all)-1]} {
					group.Go(func() { want("alice", http.MethodGet, path, http.StatusOK) })
					group.Go(
						func() { want("bob", http.MethodGet, path, http.StatusForbidden, http.StatusTooManyRequests) },
					)
				}
			}
			group.Wait()
		})
		t.Run("right that is taken", func(t *testing.T) {
			a.allow("alice", "unsigned")
			for _, path := range all {
				want("alice", http.MethodGet, path, http.StatusForbidden, http.StatusTooManyRequests)
			}
			a.allow("alice", "signed", "multi", "unsigned")
			want("alice", http.MethodGet, all[0], http.StatusOK)
		})
		t.Run("no HEAD", func(t *testing.T) {
			a.mu.Lock()
			a.noHead = true
			a.mu.Unlock()
			for _, path := range all {
				want("alice", http.MethodGet, path, http.StatusOK)
			}
		})

		a.mu.Lock()
		if len(a.strayed) != 0 {
			t.Errorf("the store saw %d headers", len(a.strayed))
		}
		a.mu.Unlock()
		_, metrics := rig.Get(t, "http://"+r.Admin+"/metrics")
		_, decisions := rig.Get(t, "http://"+r.Admin+"/decisions")
		said = metrics + decisions + r.Log.Text()
	})

	text, err := os.ReadFile(filepath.Join(dir, "state", "decisions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if said += string(text); len(said) < 1000 || strings.Contains(said, mark) {
		t.Errorf(
			"%d bytes of logs, records and metrics; a secret is among them: %v",
			len(said),
			strings.Contains(said, mark),
		)
	}
}

// A client is asked for its password where it has shown none, or a wrong one, and
// where it asks first, at /v2/. The answer of one says nothing about another.
func TestPassthroughChallenge(t *testing.T) {
	addr, key := rig.Registry(t)
	r := passing(t, t.TempDir(), newAccounts(t, addr), key, "  - {host: open.example, url: \"http://"+addr+"\"}\n")
	header := func(authorization ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"http://"+r.Gate+"/v2/"+private+"/signed/manifests/latest", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = authorization
		return send(t, req)
	}
	basic := func(user, password string) string {
		req := &http.Request{Header: http.Header{}}
		req.SetBasicAuth(user, password)
		return req.Header.Get("Authorization")
	}

	for name, row := range map[string]struct {
		authorization []string
		status        int
	}{
		"none":             {nil, http.StatusUnauthorized},
		"wrong password":   {[]string{basic("alice", "wrong")}, http.StatusUnauthorized},
		"right password":   {[]string{basic("alice", passwordOf("alice"))}, http.StatusOK},
		"wrong again":      {[]string{basic("alice", "wrong")}, http.StatusUnauthorized},
		"own token":        {[]string{"Bearer token-" + mark + "-alice"}, http.StatusOK},
		"wrong token":      {[]string{"Bearer x"}, http.StatusUnauthorized},
		"another scheme":   {[]string{"Digest x"}, http.StatusUnauthorized},
		"no base64":        {[]string{"Basic !"}, http.StatusUnauthorized},
		"two headers":      {[]string{basic("alice", passwordOf("alice")), basic("bob", "x")}, http.StatusBadRequest},
		"control in basic": {[]string{basic("alice\r\nX: y", "z")}, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			resp := header(row.authorization...)
			if resp.StatusCode != row.status {
				t.Errorf("status %d; want %d", resp.StatusCode, row.status)
			}
			want := ""
			if row.status == http.StatusUnauthorized {
				want = `Basic realm="private.example"`
			}
			if got := resp.Header.Get("WWW-Authenticate"); got != want {
				t.Errorf("challenge %q; want %q", got, want)
			}
		})
	}

	if resp := as(t, r, "", http.MethodGet, ""); resp.StatusCode != http.StatusUnauthorized ||
		!strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("/v2/ is answered %d", resp.StatusCode)
	}
	if resp := as(t, r, "alice", http.MethodGet, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/v2/ with a password is answered %d", resp.StatusCode)
	}
	if resp := as(t, r, "", http.MethodGet, "open.example/signed/manifests/latest"); resp.StatusCode != http.StatusOK {
		t.Errorf("the other upstream is answered %d", resp.StatusCode)
	}
}

// A client's password goes to the registry that it is for: not to an upstream that
// the gate asks by itself, and not to a realm on another domain.
func TestPassthroughElsewhere(t *testing.T) {
	var mu sync.Mutex
	var strayed []string
	stray := func(next http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			strayed = append(strayed, r.Header.Values("Authorization")...)
			mu.Unlock()
			next(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	addr, key := rig.Registry(t)
	plain := stray(backend(addr))
	foreign := stray(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{"token":"x"}`) })
	at, err := url.Parse(foreign.URL)
	if err != nil {
		t.Fatal(err)
	}

	a := newAccounts(t, addr)
	a.realm = "http://localhost:" + at.Port() + "/token" // another name than 127.0.0.1
	r := passing(t, t.TempDir(), a, key, "  - {host: open.example, url: \""+plain.URL+"\"}\n")
	if resp := as(
		t,
		r,
		"alice",
		http.MethodGet,
		"open.example/signed/manifests/latest",
	); resp.StatusCode != http.StatusOK {
		t.Errorf("the other upstream is answered %d", resp.StatusCode)
	}
	if resp := as(
		t,
		r,
		"alice",
		http.MethodGet,
		private+"/signed/manifests/latest",
	); resp.StatusCode != http.StatusBadGateway {
		t.Errorf("a foreign realm makes %d", resp.StatusCode)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(strayed) != 0 {
		t.Errorf("%d headers went elsewhere", len(strayed))
	}
}

// A verdict is made of what one client's credentials can see, and belongs to them:
// who is not shown the signature is refused, and refuses nobody else.
func TestPassthroughVerdicts(t *testing.T) {
	addr, key := rig.Registry(t)
	a := newAccounts(t, addr)
	a.allow("bob", "signed")
	a.blind = "bob"
	r := passing(t, t.TempDir(), a, key, "")
	for range 2 {
		for user, want := range map[string]int{"bob": http.StatusForbidden, "alice": http.StatusOK} {
			if got := as(t, r, user, http.MethodGet, private+"/signed/manifests/latest").StatusCode; got != want {
				t.Errorf("%s is answered %d; want %d", user, got, want)
			}
		}
	}
}

// No client tries passwords from the gate's address without end.
func TestPassthroughGuesses(t *testing.T) {
	addr, key := rig.Registry(t)
	a := newAccounts(t, addr)
	r := passing(t, t.TempDir(), a, key, "limits: {clientMisses: 20}\n")
	for i := range 60 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			"http://"+r.Gate+"/v2/"+private+"/signed/manifests/latest", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("alice", fmt.Sprint("guess", i))
		send(t, req)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.guesses > 40 {
		t.Errorf("%d of 60 guesses reach the registry", a.guesses)
	}
}
