package clients

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// headerTimeout is how long a proxy may take for the PROXY header.
const headerTimeout = 10 * time.Second

// Listen returns a listener like l whose connections have the client's address
// where a trusted proxy names it by the PROXY protocol. While proxies have
// Protocol, each of their connections has to begin with such a header, and others
// than theirs are closed, this machine's own aside: what reaches the port past
// the proxy has no address that can be believed. proxies says which ones are
// trusted as of now; it must be safe for concurrent use.
func Listen(l net.Listener, proxies func() Proxies) net.Listener {
	return &listener{Listener: l, proxies: proxies}
}

type listener struct {
	net.Listener
	proxies func() Proxies
}

// Accept implements net.Listener. The header is read when the connection is first
// used, so that a slow proxy keeps no other waiting.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}

		proxies := l.proxies()
		if !proxies.Protocol {
			return conn, nil
		}
		peer := addrOf(conn.RemoteAddr())
		switch {
		case proxies.Trusts(peer):
			return proxyproto.NewConn(conn,
				proxyproto.WithPolicy(proxyproto.REQUIRE),
				proxyproto.ValidateHeader(checkHeader),
				proxyproto.SetReadHeaderTimeout(headerTimeout),
			), nil
		case peer.IsLoopback():
			return conn, nil
		}
		_ = conn.Close() // no proxy's
	}
}

func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

var errHeader = errors.New("the PROXY header names no TCP address")

// checkHeader refuses a header that names no client. LOCAL is the proxy's own
// question, a probe.
func checkHeader(h *proxyproto.Header) error {
	if h.Command.IsLocal() {
		return nil
	}
	if !addrOf(h.SourceAddr).IsValid() {
		return errHeader
	}
	return nil
}
