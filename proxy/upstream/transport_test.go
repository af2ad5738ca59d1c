package upstream

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

func TestRefuseInternal(t *testing.T) {
	t.Parallel()
	tests := []struct {
		address                  string
		remote, private, locally bool // followed by a registry elsewhere, in a private network, on loopback
	}{
		{"93.184.216.34:443", true, true, true},
		{"10.0.0.5:443", false, true, true}, // where private registries have their stores
		{"172.16.0.1:443", false, true, true},
		{"192.168.1.1:443", false, true, true},
		{"[2001:db8::1]:443", true, true, true},
		{"[fd00::1]:443", false, true, true},
		{"127.0.0.1:443", false, false, true},
		{"127.0.0.1:80", false, false, true},
		{"127.8.9.10:443", false, false, true},
		{"[::1]:443", false, false, true},
		{"[::ffff:127.0.0.1]:443", false, false, true},
		{"[::ffff:7f00:1]:443", false, false, true},
		{"169.254.169.254:80", false, false, false}, // metadata of most clouds
		{"169.254.170.2:80", false, false, false},   // credentials of containers
		{"169.254.0.1:443", false, false, false},
		{"[fe80::1]:443", false, false, false},
		{"[fe80::1%eth0]:443", false, false, false},
		{"[::ffff:169.254.169.254]:80", false, false, false},
		{"0.0.0.0:443", false, false, false}, // which reaches loopback
		{"[::]:443", false, false, false},
		{"[::ffff:0.0.0.0]:443", false, false, false},
		{"224.0.0.1:443", false, false, false},
		{"100.100.100.200:80", false, false, false}, // metadata elsewhere than in link-local space
		{"[::ffff:100.100.100.200]:80", false, false, false},
		{"168.63.129.16:80", false, false, false},
		{"168.63.129.16:32526", false, false, false},
		{"[::ffff:168.63.129.16]:80", false, false, false},
		{"[64:ff9b::169.254.169.254]:80", false, false, false}, // by the translator of an IPv6 network
		{"[64:ff9b::a83f:8110]:80", false, false, false},
		{"[64:ff9b::100.100.100.200]:80", false, false, false},
		{"[64:ff9b::127.0.0.1]:80", false, false, true},
		{"[64:ff9b::]:80", false, false, false},
		{"[64:ff9b:1::169.254.169.254]:80", false, false, false},
		{"[2002:a9fe:a9fe::1]:80", false, false, false},
		{"[::169.254.169.254]:80", false, false, false},
		{"[64:ff9b::93.184.216.34]:443", true, true, true}, // how such a network reaches every store without IPv6
		{"[2002:5db8:d822::1]:443", true, true, true},
		{"[fd00:ec2::254]:80", false, false, false},
		{"[fd00:ec2::254%eth0]:80", false, false, false}, // the kernel ignores the zone of such an address
		{"[::1%lo]:80", false, false, true},
		{"[ff02::1]:443", false, false, false},
		{"100.64.0.1:443", false, true, true}, // shared by a carrier's customers
		{"100.127.255.255:443", false, true, true},
		{"100.63.255.255:443", true, true, true},
		{"198.18.0.1:443", false, true, true},
		{"240.0.0.1:443", false, true, true},
		{"0.1.2.3:443", false, false, false},
		{"255.255.255.255:443", false, false, false},
		{"[fc00::1]:443", false, true, true},
		{"[fec0::1]:443", false, true, true},
		{"[::ffff:10.0.0.5]:443", false, true, true},
		{"[64:ff9b::10.0.0.5]:443", false, true, true},
		{"[64:ff9b::c0a8:101]:443", false, true, true},
		{"[64:ff9b:1::93.184.216.34]:443", false, true, true}, // its translator is one of this network
		{"[2002:a00:5::1]:443", false, true, true},
		{"[2001:0:a00:5::1]:443", false, true, true},
		{"", false, false, false},
		{"registry.example:443", false, false, false}, // what no address is, is not judged
		{"127.0.0.1", false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.address, func(t *testing.T) {
			for home, want := range map[reach]bool{
				outside: tt.remote,
				inside:  tt.private,
				machine: tt.locally,
				nowhere: tt.locally, // a registry that has a link-local address itself
			} {
				if got := refuseBeyond(tt.address, home); (got == nil) != want {
					t.Errorf("%s, followed by a registry at %s address: %v", tt.address, home, got)
				}
			}
		})
	}
}

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost":              true,
		"127.0.0.1":              true,
		"127.1.2.3":              true,
		"::1":                    true,
		"::ffff:127.0.0.1":       true,
		"registry.example":       false,
		"10.0.0.1":               false,
		"0.0.0.0":                false,
		"":                       false,
		"localhost.evil.example": false,
		"127.0.0.1.evil.example": false,
	} {
		t.Run(host, func(t *testing.T) {
			if got := isLoopback(host); got != want {
				t.Errorf("%s: %v", host, got)
			}
		})
	}
}

// The rule about addresses applies to the connection: a name that resolves to an
// internal address does not get around it.
func TestInternalAddresses(t *testing.T) {
	t.Parallel()
	inside := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, "token") {
			_, _ = w.Write([]byte(`{"token":"abc"}`))
			return
		}
		sendBlob(w, someBytes)
	})
	_, port, _ := strings.Cut(inside.name, ":")
	targets := []string{
		inside.url,
		"http://localhost:" + port,
		"http://[::ffff:127.0.0.1]:" + port,
		"http://0.0.0.0:" + port,
		"http://169.254.169.254",
		"http://169.254.169.254:80",
		"http://[fe80::1]",
		"http://10.255.255.1",
		"http://100.64.255.1",
		"http://[fd12::1]",
		"http://127.1:" + port,
		"http://2130706433:" + port,
	}
	for _, target := range targets {
		for _, kind := range []string{"redirect", "realm"} {
			t.Run(kind+" "+target, func(t *testing.T) {
				t.Parallel()
				registry := serve(t, "http", "registry.example", func(w http.ResponseWriter, q *http.Request) {
					if kind == "redirect" {
						http.Redirect(w, q, target+"/data", http.StatusFound)
						return
					}
					wants(w, bearer(target+"/token"))
				})
				u := openBare(t, registry.url, Auth{})
				u.direct.(*http.Transport).DialContext = finder(registry) // only the way to the registry is redirected
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				_, err := blob(u, ctx)
				e := wantUpstream(t, err, http.StatusServiceUnavailable)
				if !strings.Contains(target, "127.1") && !strings.Contains(target, "2130706433") &&
					!errors.Is(e, errInternal) { // those two resolve or do not
					t.Errorf("%v; want the internal address to be the reason", err)
				}
			})
		}
	}
	t.Cleanup(func() { // when the parallel ones are done
		if n := len(inside.requests()); n != 0 {
			t.Errorf("the inside got %d requests", n)
		}
	})
}

// A registry on this machine, as in a test set-up, may have its store here too.
func TestLoopbackStore(t *testing.T) {
	t.Parallel()
	store := serve(t, "http", "", blobHandler(someBytes))
	registry := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, store.url+"/data", http.StatusTemporaryRedirect)
	})
	if _, err := blob(openBare(t, registry.url, Auth{}), t.Context()); err != nil {
		t.Error(err)
	}
}

// A certificate of another CA, or for another host, is refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := serve(t, "https", "registry.example", manifestHandler(someBytes))
	good := open(t, s.url, Auth{}, s)
	mustManifest(t, good)

	impostor := &site{name: "other.example", url: "https://other.example", address: s.address}
	err := manifestOf(t, open(t, impostor.url, Auth{}, impostor))
	wantUpstream(t, err, http.StatusServiceUnavailable)

	unknownCA, err := New(Config{Host: "registry.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unknownCA.Close)
	tr := unknownCA.direct.(*http.Transport)
	tr.Proxy, tr.DialContext = nil, finder(s)
	wantUpstream(t, manifestOf(t, unknownCA), http.StatusServiceUnavailable)
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests; want only the first", n)
	}
}

// An upstream does not change the configuration's TLS settings.
func TestTLSConfigCopy(t *testing.T) {
	t.Parallel()
	config := roots()
	u, err := New(Config{Host: "r.example", TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	for _, rt := range []http.RoundTripper{u.direct, u.away} {
		if rt.(*http.Transport).TLSClientConfig == config {
			t.Error("the same *tls.Config is in a transport")
		}
		if rt.(*http.Transport).TLSClientConfig.InsecureSkipVerify {
			t.Error("certificates are not checked")
		}
	}
}

// The error for an upstream without TLS says how to configure plain http.
func TestPlainHTTPForTLS(t *testing.T) {
	t.Parallel()
	plain := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	u := openBare(t, "https://"+plain.address, Auth{})
	_, err := u.Manifest(t.Context(), repo.Tagged("v1"), plenty)
	wantText(t, wantUpstream(t, err, http.StatusServiceUnavailable), "write `url: http://…` for this upstream")
}

// Huge headers are not read to their end.
func TestHugeHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t, "http", "", func(w http.ResponseWriter, _ *http.Request) {
		for i := range 40 {
			w.Header().Set("X-"+strconv.Itoa(i), strings.Repeat("x", 8<<10))
		}
		sendManifest(w, someBytes)
	})
	wantUpstream(t, manifestOf(t, openBare(t, s.url, Auth{})), http.StatusServiceUnavailable)
}
