package intercept

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"github.com/pullgate/pullgate/policy"
)

const patience = 30 * time.Second

// rig is a Server on loopback, before a corridor that says whom it was asked for.
type rig struct {
	server     *Server
	authority  *Authority
	roots      *x509.CertPool
	proxy, tls string // addresses
	dialled    atomic.Int32
	far        atomic.Pointer[string] // the address that every tunnel leads to
}

// upstreams are what the rig serves: two names, and all below wild.example.
func upstreams(host string) (string, bool) {
	return policy.ConfiguredHost(host, func(host string) (string, bool) {
		switch {
		case host == "plain.example":
			return "80", true
		case host == "reg.example", host == "docker.io", strings.HasSuffix(host, ".wild.example"):
			return "443", true
		}
		return "", false
	})
}

func newAuthority(t *testing.T, names ...string) *Authority {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := MakeAuthority(names, key, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthority([]*x509.Certificate{certificate}, key, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func start(t *testing.T, change func(*Rules)) *rig {
	t.Helper()
	r := &rig{
		authority: newAuthority(t, "reg.example", "registry-1.docker.io", "wild.example"),
		roots:     x509.NewCertPool(),
	}
	for _, c := range r.authority.Certificates() {
		r.roots.AddCert(c)
	}
	rules := &Rules{Authority: r.authority, Upstream: upstreams}
	for _, text := range []string{"tunnel.example", "*.tunnel.example", "reg.example", "odd.example:8443"} {
		u, err := ParseTunnel(text)
		if err != nil {
			t.Fatal(err)
		}
		rules.Tunnels = append(rules.Tunnels, u)
	}
	if change != nil {
		change(rules)
	}

	var err error
	r.server, err = New(Config{
		Rules: func() *Rules { return rules },
		Corridor: func(w http.ResponseWriter, req *http.Request, familiar string, client *policy.Client) {
			name := ""
			if client != nil {
				name = client.Name
			}
			fmt.Fprintf(w, "%s %s %s %s client=%s", familiar, req.Method, req.URL.RequestURI(), req.Proto, name)
		},
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			r.dialled.Add(1)
			to := r.far.Load()
			if to == nil {
				return nil, errors.New("nothing is there")
			}
			return (&net.Dialer{}).DialContext(ctx, network, *to)
		},
		Own:   func(net.Addr) bool { return false },
		Via:   "1.1 pullgate-test",
		Log:   slog.New(slog.DiscardHandler),
		Meter: noop.NewMeterProvider(),
	})
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	proxies, redirects := listen(), listen()
	r.proxy, r.tls = proxies.Addr().String(), redirects.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = r.server.ServeProxy(proxies) })
	serving.Go(func() { _ = r.server.ServeTLS(redirects) })
	serving.Go(func() { _ = r.server.ServeTaken() })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		serving.Wait()
	})
	return r
}

// client has the rig for its proxy.
func (r *rig) client(t *testing.T, user *url.Userinfo, h2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: r.proxy, User: user}),
		TLSClientConfig:   &tls.Config{RootCAs: r.roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: h2,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}

// say sends bytes to an address, and returns the status line of the answer.
func say(t *testing.T, address, text string) (status string, conn net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString('\n')
	if err != nil {
		return "error: " + err.Error(), conn
	}
	return strings.TrimSpace(line), conn
}

// TestServed: what is asked of an upstream through the proxy is asked of the
// corridor, by the upstream's own name.
func TestServed(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for _, row := range []struct{ url, want string }{
		{"https://reg.example/v2/a/manifests/1?x=1", "200 reg.example GET /v2/a/manifests/1?x=1"},
		{"https://REG.example/v2/", "200 reg.example GET /v2/"},
		{"https://reg.example:443/v2/", "200 reg.example GET /v2/"},
		{"https://registry-1.docker.io/v2/", "200 docker.io GET /v2/"},
		{"https://a.wild.example/v2/", "200 a.wild.example GET /v2/"},
		{"http://plain.example/v2/", "200 plain.example GET /v2/ HTTP/1.1"},
	} {
		for _, h2 := range []bool{false, true} {
			got := get(t, r.client(t, nil, h2), row.url)
			if !strings.HasPrefix(got, row.want) {
				t.Errorf("%s: %s", row.url, got)
			}
			if strings.HasPrefix(row.url, "https") && strings.Contains(got, "HTTP/2.0") != h2 {
				t.Errorf("%s: h2 %v: %s", row.url, h2, got)
			}
		}
	}
}

// TestTargets: nothing but an upstream's own name and port is served, nothing but a
// tunnel's is connected, and no spelling of an upstream is taken for a tunnel's.
func TestTargets(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for target, want := range map[string]string{
		"reg.example:80":         "403", // a tunnel is for that name, too
		"reg.example:22":         "403",
		"reg.example.:443":       "400",
		"reg.example":            "400",
		"reg.example:0443":       "400",
		"reg.example:":           "400",
		"reg..example:443":       "400",
		"reg.example:443:443":    "400",
		"other.example:443":      "403",
		"tunnel.example:22":      "403",
		"tunnel.example:80":      "403",
		"tunnel.example.:443":    "400",
		"odd.example:443":        "403",
		"a.b.tunnel.example:443": "403",
		"127.0.0.1:443":          "400",
		"[::1]:443":              "400",
		"2130706433:443":         "400",
		"0x7f.1:443":             "400",
		"1.2.3:443":              "400",
		"user@reg.example:443":   "400",
	} {
		status, _ := say(t, r.proxy, "CONNECT "+target+" HTTP/1.1\r\nHost: reg.example:443\r\n\r\n")
		if !strings.HasPrefix(status, "HTTP/1.1 "+want) {
			t.Errorf("CONNECT %s: %s, not %s", target, status, want)
		}
	}
	if n := r.dialled.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// TestServerNames: the handshake has to name the host of CONNECT, and every request
// within has to name it again.
func TestServerNames(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	handshake := func(connect, name string) (*tls.Conn, error) {
		status, conn := say(t, r.proxy, "CONNECT "+connect+" HTTP/1.1\r\nHost: "+connect+"\r\n\r\n")
		if !strings.HasPrefix(status, "HTTP/1.1 200") {
			t.Fatalf("CONNECT %s: %s", connect, status)
		}
		c := tls.Client(
			conn,
			&tls.Config{ServerName: name, RootCAs: r.roots, InsecureSkipVerify: name == ""},
		) //nolint:gosec // there is no name to verify
		return c, c.Handshake()
	}
	for _, name := range []string{"a.wild.example", "tunnel.example", "other.example", ""} {
		if _, err := handshake("reg.example:443", name); err == nil {
			t.Errorf("a handshake for %q is answered within CONNECT reg.example", name)
		}
	}

	for request, want := range map[string]string{
		"GET /v2/ HTTP/1.1\r\nHost: reg.example\r\n\r\n":                           "200",
		"GET /v2/ HTTP/1.1\r\nHost: REG.EXAMPLE:443\r\n\r\n":                       "200",
		"GET /v2/ HTTP/1.1\r\nHost: a.wild.example\r\n\r\n":                        "421",
		"GET /v2/ HTTP/1.1\r\nHost: reg.example.\r\n\r\n":                          "421",
		"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n":                             "421",
		"GET https://a.wild.example/v2/ HTTP/1.1\r\nHost: reg.example\r\n\r\n":     "421",
		"GET /v2/ HTTP/1.1\r\nHost: reg.example\r\nVia: 1.1 pullgate-test\r\n\r\n": "508",
		"CONNECT reg.example:443 HTTP/1.1\r\nHost: reg.example:443\r\n\r\n":        "200", // of the corridor
		"GET /v2/ HTTP/1.1\r\nHost: reg.example\r\nHost: a.wild.example\r\n\r\n":   "400",
		"GET /v2/ HTTP/1.1\r\n\r\n":                                                "400",
	} {
		c, err := handshake("reg.example:443", "reg.example")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 "+want) {
			t.Errorf("%q: %q %v, not %s", request, line, err, want)
		}
	}
}

// TestPlain: whole http URLs lead to upstreams that are configured with http, and
// their authority counts, whatever the Host header says (RFC 9112, section 3.2.2).
func TestPlain(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for request, want := range map[string]string{
		"GET http://plain.example/v2/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                                  "200",
		"GET http://plain.example/v2/ HTTP/1.1\r\nHost: other.example\r\n\r\n":                                  "200",
		"GET http://reg.example/v2/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                                    "403",
		"GET http://other.example/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                                     "403",
		"GET http://plain.example./v2/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                                 "400",
		"GET http://127.0.0.1/v2/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                                      "400",
		"GET https://reg.example/v2/ HTTP/1.1\r\nHost: reg.example\r\n\r\n":                                     "400",
		"GET http://u:p@plain.example/v2/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                              "400",
		"GET /v2/ HTTP/1.1\r\nHost: plain.example\r\n\r\n":                                                      "400",
		"GET http://plain.example/v2/ HTTP/1.1\r\nHost: plain.example\r\nVia: 1.0 x, 1.1 pullgate-test\r\n\r\n": "508",
	} {
		if status, _ := say(t, r.proxy, request); !strings.HasPrefix(status, "HTTP/1.1 "+want) {
			t.Errorf("%q: %s, not %s", request, status, want)
		}
	}
}

// TestTunnels: a listed host is reached by its own name alone, both ways, and the
// handshake within has to name it.
func TestTunnels(t *testing.T) {
	t.Parallel()
	far := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "far %s", req.Host)
	}))
	far.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	far.StartTLS()
	t.Cleanup(far.Close)
	near := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "near %s %q", req.Host, req.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(near.Close)

	r := start(t, nil)
	address := far.Listener.Addr().String()
	r.far.Store(&address)
	insecure := func(name string) *tls.Config {
		return &tls.Config{ServerName: name, InsecureSkipVerify: true} //nolint:gosec // it is another server's
	}
	for _, row := range []struct {
		connect, name string
		through       bool
	}{
		{"tunnel.example:443", "tunnel.example", true},
		{"tunnel.example:443", "TUNNEL.example", true},
		{"a.tunnel.example:443", "a.tunnel.example", true},
		{"odd.example:8443", "odd.example", true},
		{"tunnel.example:443", "reg.example", false},
		{"tunnel.example:443", "a.tunnel.example", false},
		{"tunnel.example:443", "", false},
	} {
		status, conn := say(t, r.proxy, "CONNECT "+row.connect+" HTTP/1.1\r\nHost: "+row.connect+"\r\n\r\n")
		if !strings.HasPrefix(status, "HTTP/1.1 200") {
			t.Fatalf("CONNECT %s: %s", row.connect, status)
		}
		err := tls.Client(conn, insecure(row.name)).Handshake()
		if (err == nil) != row.through {
			t.Errorf("CONNECT %s, TLS %q: %v", row.connect, row.name, err)
		}
	}

	conn, err := tls.Dial("tcp", r.tls, insecure("tunnel.example"))
	if err != nil {
		t.Fatalf("redirected: %v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: tunnel.example\r\nConnection: close\r\n\r\n")
	if answer, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(answer), "far tunnel.example") {
		t.Errorf("%q %v", answer, err)
	}

	address = near.Listener.Addr().String()
	r.far.Store(&address)
	if got := get(
		t,
		r.client(t, url.UserPassword("u", "p"), false),
		"http://tunnel.example/",
	); got != `200 near tunnel.example ""` {
		t.Errorf("plain: %s", got)
	}
}

// TestRedirected: TLS that was led here by address is served by the name in it, or
// ended.
func TestRedirected(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	dial := func(name string) (*tls.Conn, error) {
		return tls.DialWithDialer(
			&net.Dialer{Timeout: patience},
			"tcp",
			r.tls,
			&tls.Config{
				ServerName:         name,
				RootCAs:            r.roots,
				MinVersion:         tls.VersionTLS12,
				InsecureSkipVerify: name == "",
			},
		) //nolint:gosec // there is no name to verify
	}
	conn, err := dial("reg.example")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /v2/ HTTP/1.1\r\nHost: reg.example\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "reg.example GET /v2/") {
		t.Errorf("%q %v", answer, err)
	}

	for _, name := range []string{"other.example", "", "reg.example.evil.example"} {
		if _, err := dial(name); err == nil {
			t.Errorf("%q was answered", name)
		}
	}
	for _, text := range []string{
		"GET /v2/ HTTP/1.1\r\nHost: reg.example\r\n\r\n",
		"\x16\x03\x01\x00\x02\x01\x00",
		"\x16",
	} {
		conn, err := net.Dial("tcp", r.tls)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if got, _ := io.ReadAll(conn); strings.Contains(string(got), "HTTP") {
			t.Errorf("%q was answered: %q", text, got)
		}
		_ = conn.Close()
	}
}

// TestHalfHandshakes: connections that never say who they are for hold up no other.
func TestHalfHandshakes(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	for range 200 {
		for _, address := range []string{r.tls, r.proxy} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			_, _ = conn.Write([]byte{0x16, 3, 1, 2})
		}
	}
	if got := get(t, r.client(t, nil, true), "https://reg.example/v2/"); !strings.HasPrefix(got, "200") {
		t.Error(got)
	}
}

// TestProxyNames: where clients have names, one that shows the proxy none gets
// nowhere, and what it shows the registry is no name for the gate.
func TestProxyNames(t *testing.T) {
	t.Parallel()
	good := "Basic " + base64.StdEncoding.EncodeToString([]byte("ci:right"))
	r := start(t, func(rules *Rules) {
		rules.Authenticate = func(req *http.Request) (policy.Client, error) {
			if req.Header.Get("Authorization") != good {
				return policy.Client{}, errors.New("this gate wants to know who asks")
			}
			return policy.Client{Name: "user:ci"}, nil
		}
	})
	if got := get(
		t,
		r.client(t, url.UserPassword("ci", "right"), true),
		"https://reg.example/v2/",
	); !strings.HasSuffix(
		got,
		"client=user:ci",
	) {
		t.Error(got)
	}
	if got := get(
		t,
		r.client(t, url.UserPassword("ci", "right"), false),
		"http://plain.example/v2/",
	); !strings.HasSuffix(
		got,
		"client=user:ci",
	) {
		t.Error(got)
	}
	for _, request := range []string{
		"CONNECT reg.example:443 HTTP/1.1\r\nHost: reg.example:443\r\n\r\n",
		"CONNECT reg.example:443 HTTP/1.1\r\nHost: reg.example:443\r\nAuthorization: " + good + "\r\n\r\n",
		"CONNECT tunnel.example:443 HTTP/1.1\r\nHost: tunnel.example:443\r\n\r\n",
		"GET http://plain.example/v2/ HTTP/1.1\r\nHost: plain.example\r\nAuthorization: " + good + "\r\n\r\n",
	} {
		if status, _ := say(t, r.proxy, request); !strings.HasPrefix(status, "HTTP/1.1 407") {
			t.Errorf("%q: %s", request, status)
		}
	}
}

// TestManyNames: names that a client makes up below a wildcard take bounded memory.
func TestManyNames(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, "wild.example")
	for i := range 3 * maxLeaves {
		if _, err := a.leaf(fmt.Sprintf("a%d.wild.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.leaves) > maxLeaves {
		t.Errorf("%d leaves are remembered", len(a.leaves))
	}
}
