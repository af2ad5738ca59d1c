package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

func pattern(t *testing.T, text string) policy.HostPattern {
	t.Helper()
	p, err := policy.ParseHostPattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// strangers are the registries of a wildcard, each opened as serve opens them.
func strangers(t *testing.T, text string, change ...func(*Config)) *Wildcard {
	t.Helper()
	w := NewWildcard(pattern(t, text), "443", func(host string) (*Upstream, error) {
		c := Config{Host: host, Stranger: true, TLS: roots()}
		for _, f := range change {
			f(&c)
		}
		return New(c)
	})
	t.Cleanup(w.Close)
	return w
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	own := openBare(t, "https://own.pkg.dev", Auth{})
	ported := openBare(t, "https://ported.pkg.dev", Auth{})
	r := &Registries{}
	r.Add("own.pkg.dev", own)
	r.Add("ported.pkg.dev:443", ported)
	wide, narrow := strangers(t, "*.*.pkg.dev"), strangers(t, "a.*.pkg.dev")
	r.AddWildcard(strangers(t, "*.pkg.dev"))
	r.AddWildcard(wide)
	r.AddWildcard(narrow)

	names := map[string]string{
		"own.pkg.dev":        "own.pkg.dev",
		"OWN.pkg.dev:443":    "own.pkg.dev",
		"ported.pkg.dev":     "ported.pkg.dev:443", // the exact entry, however it is spelled
		"ported.pkg.dev:443": "ported.pkg.dev:443",
		"x.pkg.dev":          "x.pkg.dev",
		"X.PKG.DEV:443":      "x.pkg.dev",
		"x.pkg.dev:5000":     "",
		"x.pkg.dev.":         "",
		"pkg.dev":            "",
		"x.pkg.dev.evil.com": "",
		"*.pkg.dev":          "",
	}
	for asked, want := range names {
		got, ok := policy.ConfiguredHost(asked, r.ImpliedPort)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%s means %s, %v; want %q", asked, got, ok, want)
		}
		if _, found := r.Find(got); found != ok {
			t.Errorf("%s is found: %v", got, found)
		}
	}
	if u, _ := r.Find("own.pkg.dev"); u != own {
		t.Error("a wildcard comes before an entry")
	}
	if r.wildcard("a.b.pkg.dev") != narrow || r.wildcard("b.b.pkg.dev") != wide {
		t.Error("the widest wildcard counts")
	}
	again, _ := r.Find("x.pkg.dev")
	if u, _ := r.Find("x.pkg.dev"); u != again {
		t.Error("each question has an upstream of its own")
	}
}

// A client that makes names up costs bounded memory, and pushes out no registry
// that serves.
func TestWildcardBound(t *testing.T) {
	t.Parallel()
	w := strangers(t, "*.pkg.dev")
	good := w.registry("good.pkg.dev")
	good.answered.Store(true)
	var fallen *Upstream
	for i := range 10_000 {
		u := w.registry(fmt.Sprintf("x%d.pkg.dev", i))
		if i == 0 {
			fallen = u
		}
	}
	if n := w.unproven.order.Len() + w.proven.order.Len(); n > maxUnproven+1 || len(w.unproven.byHost) > maxUnproven {
		t.Errorf("%d are remembered", n)
	}
	if fallen.open.Err() == nil {
		t.Error("what is forgotten is not closed")
	}
	if w.registry("good.pkg.dev") != good || good.open.Err() != nil {
		t.Error("the one that serves is forgotten")
	}

	for i := range 2 * maxProven {
		w.registry(fmt.Sprintf("y%d.pkg.dev", i)).answered.Store(true)
	}
	w.registry("z.pkg.dev")
	if n := w.proven.order.Len(); n > maxProven {
		t.Errorf("%d that serve are remembered", n)
	}
}

// Credentials, and the reason why there are none, are one host's.
func TestWildcardCredentials(t *testing.T) {
	t.Parallel()
	broken := errors.New("its file cannot be read")
	var mu sync.Mutex
	opened := map[string]int{}
	w := NewWildcard(pattern(t, "*.pkg.dev"), "443", func(host string) (*Upstream, error) {
		mu.Lock()
		opened[host]++
		mu.Unlock()
		if host == "bad.pkg.dev" {
			return nil, broken
		}
		source, err := credentials.NewBasic(host, file(t, host+mark))
		if err != nil {
			return nil, err
		}
		return New(Config{Host: host, Stranger: true, Auth: Auth{Source: source}})
	})
	t.Cleanup(w.Close)

	for _, host := range []string{"a.pkg.dev", "b.pkg.dev"} {
		got, err := w.registry(host).auth.Get(t.Context(), policy.Repository{})
		if err != nil || got.Username != host {
			t.Errorf("%s is shown %q, %v", host, got.Username, err)
		}
	}
	for range 2 {
		_, err := w.registry("bad.pkg.dev").Manifest(t.Context(), repo.Tagged("v1"), plenty)
		if !errors.Is(err, broken) {
			t.Errorf("%v; want the reason", err)
		}
	}
	if opened["bad.pkg.dev"] != 2 || opened["a.pkg.dev"] != 1 {
		t.Errorf("opened %v", opened)
	}
}

// A host that a client has named is asked only where it lies outside, whatever
// its name resolves to at the moment of the connection.
func TestStrangersAddress(t *testing.T) {
	t.Parallel()
	inside := serve(t, "http", "", blobHandler(someBytes))
	_, port, _ := net.SplitHostPort(inside.address)
	for name, host := range map[string]string{
		"loopback by name":  "localhost:" + port,
		"loopback":          "127.0.0.1:" + port,
		"mapped":            "[::ffff:127.0.0.1]:" + port,
		"unspecified":       "0.0.0.0:" + port,
		"private":           "10.255.255.1:" + port,
		"private by prefix": "[64:ff9b::a00:5]:" + port,
		"unique local":      "[fd12::1]:" + port,
		"carrier":           "100.64.0.1:" + port,
		"link-local":        "169.254.169.254:80",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWays(waysConfig{base: &url.URL{Scheme: "https", Host: host}, stranger: true})
			for way, tr := range map[string]*http.Transport{"direct": w.direct, "away": w.away} {
				conn, err := tr.DialContext(t.Context(), "tcp", host)
				if !errors.Is(err, errInternal) {
					t.Errorf("%s: connected to %s: %v", way, host, err)
				}
				if err == nil {
					_ = conn.Close()
				}
			}
		})
	}
}

// The registry's own address says how far inside its redirects may lead: one that
// an admin has inside keeps its stores there.
func TestHomeReach(t *testing.T) {
	t.Parallel()
	store := serve(t, "http", "", blobHandler(someBytes))
	w := newWays(waysConfig{base: &url.URL{Scheme: "http", Host: "registry.example"}})
	dialStore := func() error {
		conn, err := w.away.DialContext(t.Context(), "tcp", store.address)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	if err := dialStore(); !errors.Is(err, errInternal) {
		t.Errorf("a registry that lies outside leads to loopback: %v", err)
	}

	conn, err := w.direct.DialContext(t.Context(), "tcp", store.address) // as when its name resolves so
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := dialStore(); err != nil {
		t.Errorf("a registry on this machine has its store there: %v", err)
	}
	if err := refuseBeyond("169.254.169.254:80", w.homeReach()); err == nil {
		t.Error("it may lead to link-local addresses")
	}
}

// A realm or a store that the admin lists may lie inside.
func TestListedRealmInside(t *testing.T) {
	t.Parallel()
	inside := serve(t, "http", "", blobHandler(someBytes))
	w := newWays(waysConfig{
		base:  &url.URL{Scheme: "https", Host: "registry.example"},
		named: []string{"localhost"},
	})
	_, port, _ := net.SplitHostPort(inside.address)
	conn, err := w.away.DialContext(t.Context(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := w.away.DialContext(t.Context(), "tcp", "127.0.0.1:"+port); !errors.Is(err, errInternal) {
		t.Errorf("another host than the one listed: %v", err)
	}
}

// A store that the configuration names is followed to, and handed on.
func TestListedStore(t *testing.T) {
	t.Parallel()
	store := serve(t, "http", "", blobHandler(someBytes))
	registry := serve(t, "http", "registry.example", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, store.url+"/data", http.StatusTemporaryRedirect)
	})
	for _, handsOn := range []bool{false, true} {
		for _, stores := range [][]string{nil, {store.address}} {
			u := openWith(t, registry.url, Config{Stores: stores, Redirect: handsOn})
			u.direct.(*http.Transport).DialContext = finder(registry)
			b, err := u.OpenBlob(t.Context(), repo, someHash, http.MethodGet, "")
			if (err == nil) != (stores != nil) {
				t.Errorf("handed on: %v, listed: %v: %v", handsOn, stores, err)
			}
			if err == nil {
				_ = b.Body.Close()
			}
		}
	}
}

// An HTTP proxy connects in the gate's place, so that addresses are judged before
// it is asked.
func TestRefuseLiteral(t *testing.T) {
	t.Parallel()
	for host, refused := range map[string]bool{
		"cdn.example":         false,
		"93.184.216.34":       false,
		"2001:db8::1":         false,
		"127.0.0.1":           true,
		"10.0.0.1":            true,
		"::1":                 true,
		"::ffff:10.0.0.1":     true,
		"localhost":           true,
		"127.1":               true,
		"2130706433":          true,
		"0x7f.1":              true,
		"0x7f000001":          true,
		"127.0.0.1.":          true,
		"1.e100.net":          false,
		"169.254.169.254":     true,
		"a.127.0.0.1.example": false,
	} {
		if got := refuseLiteral(host, outside); (got != nil) != refused {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// A wildcard's pause, tokens and connections are one host's.
func TestStrangersApart(t *testing.T) {
	t.Parallel()
	limited := always(http.StatusTooManyRequests, map[string]string{"Retry-After": "60"}, "")
	a := serve(t, "https", "a.pkg.dev", limited)
	b := serve(t, "https", "b.pkg.dev", manifestHandler(someBytes))
	w := strangers(t, "*.pkg.dev")
	for _, s := range []*site{a, b} {
		u := w.registry(s.name)
		u.direct.(*http.Transport).Proxy = nil
		u.direct.(*http.Transport).DialContext = finder(a, b)
	}
	ask := func(host string) error {
		image := policy.Image{Repository: policy.Repository{Host: host, Path: "x"}}
		image.Tag = "latest"
		_, err := w.registry(host).Manifest(context.WithoutCancel(t.Context()), image, plenty)
		return err
	}
	for range 3 {
		if err := ask("a.pkg.dev"); err == nil || !strings.Contains(err.Error(), "a.pkg.dev") {
			t.Errorf("%v; want a's pause", err)
		}
		if err := ask("b.pkg.dev"); err != nil {
			t.Error(err)
		}
	}
	if n := len(a.requests()); n != 1 {
		t.Errorf("%d requests to the one that pauses", n)
	}
}
