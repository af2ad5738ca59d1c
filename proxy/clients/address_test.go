package clients

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// A header names a client only where a trusted proxy has written it.
func TestForwardedFor(t *testing.T) {
	t.Parallel()
	proxies := Proxies{Networks: networks(t, "10.0.0.0/24", "2001:db8::/32")}
	for name, row := range map[string]struct {
		proxies Proxies
		peer    string
		header  []string
		want    string
		proxied bool
	}{
		"no proxies":          {Proxies{}, "10.0.0.1:1", []string{"198.51.100.1"}, "10.0.0.1", false},
		"from outside":        {proxies, "192.0.2.1:1", []string{"198.51.100.1"}, "192.0.2.1", false},
		"outside, as a proxy": {proxies, "192.0.2.1:1", []string{"10.0.0.1"}, "192.0.2.1", false},
		"one hop":             {proxies, "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1", true},
		"spoofed before it":   {proxies, "10.0.0.1:1", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1", true},
		"a proxy spoofed":     {proxies, "10.0.0.1:1", []string{"10.0.0.5, 198.51.100.1"}, "198.51.100.1", true},
		"garbage before it":   {proxies, "10.0.0.1:1", []string{"<script>, 198.51.100.1"}, "198.51.100.1", true},
		"spoofed in a header": {
			proxies, "10.0.0.1:1",
			[]string{"203.0.113.9", "198.51.100.1"},
			"198.51.100.1",
			true,
		},
		"two proxies":            {proxies, "10.0.0.1:1", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1", true},
		"two proxies, two lines": {proxies, "10.0.0.1:1", []string{"198.51.100.1", "10.0.0.2"}, "198.51.100.1", true},
		"with a port":            {proxies, "10.0.0.1:1", []string{"198.51.100.1:55"}, "198.51.100.1", true},
		"IPv6":                   {proxies, "[2001:db8::1]:1", []string{"2001:dead::1"}, "2001:dead::1", true},
		"IPv6 in brackets":       {proxies, "10.0.0.1:1", []string{"[2001:dead::1]:7"}, "2001:dead::1", true},
		"IPv4 in IPv6": {
			proxies, "[::ffff:10.0.0.1]:1",
			[]string{"::ffff:198.51.100.1"},
			"198.51.100.1",
			true,
		},
		"a zone":                {proxies, "10.0.0.1:1", []string{"fe80::1%eth0"}, "fe80::1", true},
		"none":                  {proxies, "10.0.0.1:1", nil, "10.0.0.1", true},
		"proxies alone":         {proxies, "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3", true},
		"garbage":               {proxies, "10.0.0.1:1", []string{"unknown"}, "", true},
		"empty item":            {proxies, "10.0.0.1:1", []string{"198.51.100.1, "}, "", true},
		"garbage after a proxy": {proxies, "10.0.0.1:1", []string{"x, 10.0.0.2"}, "", true},
		"PROXY protocol": {
			Proxies{Networks: proxies.Networks, Protocol: true},
			"10.0.0.1:1",
			[]string{"198.51.100.1"},
			"10.0.0.1",
			true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := asked(func(r *http.Request) { r.RemoteAddr = row.peer })
			r.Header["X-Forwarded-For"] = row.header
			r.Header.Set("Forwarded", "for=203.0.113.77")
			r.Header.Set("X-Real-IP", "203.0.113.77")
			client, err := New(Config{Proxies: row.proxies}).Authenticate(r)
			var bad *ForwardedError
			if row.want == "" {
				if !errors.As(err, &bad) {
					t.Errorf("%q, %v; want no client", client.Addr, err)
				}
				return
			}
			if err != nil || client.Addr != row.want {
				t.Errorf("%q, %v; want %q", client.Addr, err, row.want)
			}
			if _, proxied, _ := row.proxies.address(r); proxied != row.proxied {
				t.Errorf("through a proxy: %v", proxied)
			}
		})
	}
}

// The PROXY protocol is taken from trusted proxies alone, and demanded of them.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	const v1 = "PROXY TCP4 198.51.100.7 10.0.0.1 4711 5000\r\n"
	v2, err := (&proxyproto.Header{
		Version:           2,
		Command:           proxyproto.PROXY,
		TransportProtocol: proxyproto.TCPv6,
		SourceAddr:        &net.TCPAddr{IP: net.ParseIP("2001:dead::7"), Port: 4711},
		DestinationAddr:   &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 5000},
	}).Format()
	if err != nil {
		t.Fatal(err)
	}
	unix, err := (&proxyproto.Header{
		Version:           2,
		Command:           proxyproto.PROXY,
		TransportProtocol: proxyproto.UnixStream,
		SourceAddr:        &net.UnixAddr{Net: "unix", Name: "/run/x"},
		DestinationAddr:   &net.UnixAddr{Net: "unix", Name: "/run/y"},
	}).Format()
	if err != nil {
		t.Fatal(err)
	}
	local, err := (&proxyproto.Header{
		Version:           2,
		Command:           proxyproto.LOCAL,
		TransportProtocol: proxyproto.UNSPEC,
	}).Format()
	if err != nil {
		t.Fatal(err)
	}

	on := Proxies{Networks: networks(t, "10.0.0.0/24"), Protocol: true}
	for name, row := range map[string]struct {
		proxies Proxies
		peer    string
		header  string
		want    string // the client's address; "": the connection is not served
		rest    string // what is left of the header for the reader
	}{
		"v1":                    {on, "10.0.0.1", v1, "198.51.100.7", ""},
		"v2":                    {on, "10.0.0.1", string(v2), "2001:dead::7", ""},
		"a probe":               {on, "10.0.0.1", string(local), "10.0.0.1", ""},
		"none":                  {on, "10.0.0.1", "", "", ""},
		"no address":            {on, "10.0.0.1", "PROXY UNKNOWN\r\n", "10.0.0.1", ""},
		"a socket's":            {on, "10.0.0.1", string(unix), "", ""},
		"damaged":               {on, "10.0.0.1", "PROXY TCP4 198.51.100.7\r\n", "", ""},
		"from outside":          {on, "192.0.2.1", v1, "", ""},
		"from outside, none":    {on, "192.0.2.1", "", "", ""},
		"from this machine":     {on, "127.0.0.1", v1, "127.0.0.1", v1},
		"off, from a proxy":     {Proxies{Networks: on.Networks}, "10.0.0.1", v1, "10.0.0.1", v1},
		"off, and from outside": {Proxies{Networks: on.Networks}, "192.0.2.1", "", "192.0.2.1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := &fedListener{conns: make(chan net.Conn, 2)}
			client, served := net.Pipe()
			t.Cleanup(func() { _ = client.Close(); _ = served.Close() })
			inner.conns <- &fromConn{served, &net.TCPAddr{IP: net.ParseIP(row.peer), Port: 4711}}
			other, last := net.Pipe()
			t.Cleanup(func() { _ = other.Close(); _ = last.Close() })
			inner.conns <- &fromConn{last, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}}
			go fmt.Fprint(client, row.header, "GET / HTTP/1.1\r\n")

			conn, err := Listen(inner, func() Proxies { return row.proxies }).Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			if from, ok := conn.(*fromConn); ok && from.Conn == last {
				if row.want != "" {
					t.Error("the connection was closed")
				}
				return
			}
			from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			line, err := bufio.NewReader(conn).ReadString('\n')
			switch {
			case row.want == "":
				if err == nil {
					t.Errorf("it was served as %s: %q", from, line)
				}
			case err != nil || from != row.want || !strings.HasPrefix(row.rest+"GET / HTTP/1.1\r\n", line):
				t.Errorf("from %s: %q, %v; want %s", from, line, err, row.want)
			}
		})
	}
}

// fedListener accepts what it is fed.
type fedListener struct{ conns chan net.Conn }

func (l *fedListener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l *fedListener) Close() error              { return nil }
func (l *fedListener) Addr() net.Addr            { return &net.TCPAddr{} }

// fromConn is a connection from an address.
type fromConn struct {
	net.Conn
	from net.Addr
}

func (c *fromConn) RemoteAddr() net.Addr { return c.from }
