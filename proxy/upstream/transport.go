package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pullgate/pullgate/policy"
)

const (
	dialTimeout    = 10 * time.Second
	headerTimeout  = 30 * time.Second // until an answer's first byte
	maxHeaderBytes = 64 << 10

	// An HTTP/2 connection on which nothing came for pingAfter is asked whether it
	// lives: one that a firewall has dropped would swallow every request until
	// headerTimeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// ways are the connections of one registry: to itself, and to hosts that it
// names. What it names lies no further inside than the registry itself, which is
// told by the addresses that are connected to: a name may resolve to anything,
// and to something else the next time.
type ways struct {
	direct, away *http.Transport

	home    atomic.Int32 // the reach of the registry, as it was last connected to
	proxies []string     // host:port of HTTP proxies, which connect in the gate's place
	named   []string     // hosts, or host:port, that the configuration names and may lie inside
}

// waysConfig is what ways are made of.
type waysConfig struct {
	tls      *tls.Config
	via      string
	base     *url.URL
	idle     int  // connections kept per host: a verdict asks for several things at once
	stranger bool // a client named the registry's host: it must lie outside
	named    []string
}

func newWays(c waysConfig) *ways {
	w := &ways{proxies: proxies(), named: c.named}
	w.home.Store(int32(nameReach(c.base.Hostname())))

	toHome := w.connectHome
	if c.stranger {
		w.home.Store(int32(outside))
		toHome = w.connectAway
	}
	w.direct, w.away = c.transport(toHome), c.transport(w.connectAway)
	w.away.Proxy = w.proxyAway
	if c.stranger {
		w.direct.Proxy = w.proxyAway
	}
	return w
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

func (c waysConfig) transport(connect dial) *http.Transport {
	toProxies := http.Header{}
	if c.via != "" {
		toProxies.Set("Via", c.via)
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ProxyConnectHeader:     toProxies,
		DialContext:            connect,
		TLSClientConfig:        c.tls.Clone(),
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConnsPerHost:    c.idle,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeaderBytes,
		DisableCompression:     true, // what was hashed is what is served
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

func dialer(control func(network, address string, _ syscall.RawConn) error) *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second, Control: control}
}

// connectHome connects to the registry that the configuration names, wherever it
// lies, and notes how far inside that is.
func (w *ways) connectHome(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dialer(nil).DialContext(ctx, network, address)
	if err != nil || slices.Contains(w.proxies, address) {
		return conn, err
	}

	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		w.home.Store(int32(reachOf(at.Addr())))
	}
	return conn, nil
}

// connectAway connects to a host that the registry, or a client, has named. The
// address is judged when the connection is made, after the name was resolved.
func (w *ways) connectAway(ctx context.Context, network, address string) (net.Conn, error) {
	if slices.Contains(w.proxies, address) {
		return dialer(nil).DialContext(ctx, network, address)
	}

	most := w.mostAt(address)
	guard := func(_, address string, _ syscall.RawConn) error { return refuseBeyond(address, most) }
	return dialer(guard).DialContext(ctx, network, address)
}

// homeReach is how far inside the registry lies.
func (w *ways) homeReach() reach { return reach(w.home.Load()) }

// mostAt is how far inside an address, host or host:port, may lead: no further than
// the registry, unless the configuration names it.
func (w *ways) mostAt(address string) reach {
	host, _ := policy.SplitPort(address)
	named := slices.ContainsFunc(w.named, func(n string) bool {
		return strings.EqualFold(n, host) || strings.EqualFold(n, address)
	})
	if named {
		return machine
	}
	return w.homeReach()
}

// proxyAway is the proxy for a request to a host that the registry or a client has
// named. A proxy resolves names by itself and has to know what it may connect to;
// an address is judged here.
func (w *ways) proxyAway(req *http.Request) (*url.URL, error) {
	at, err := http.ProxyFromEnvironment(req)
	if err != nil || at == nil {
		return at, err
	}
	if err := refuseLiteral(req.URL.Hostname(), w.mostAt(req.URL.Host)); err != nil {
		return nil, err
	}
	return at, nil
}

// proxies are the HTTP proxies of this process's environment, as connections are
// made to them.
func proxies() []string {
	ports := map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}
	var list []string
	for _, scheme := range []string{"http", "https"} {
		at, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "registry.example"}})
		if err != nil || at == nil {
			continue
		}

		port := at.Port()
		if port == "" {
			port = ports[at.Scheme]
		}
		list = append(list, net.JoinHostPort(at.Hostname(), port))
	}
	return list
}
