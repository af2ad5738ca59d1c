package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/policy"
)

// Rules are what a configuration says about interception.
type Rules struct {
	Authority *Authority
	Tunnels   []Tunnel

	// Upstream finds the upstream that host:port names, by the name that the
	// configuration gives it.
	Upstream func(hostPort string) (familiar string, ok bool)

	// Authenticate says who sent a CONNECT or a plain request. The credentials for
	// the gate stand in the Authorization header of what it is given. Nil: clients
	// are known by address, and the corridor finds that out itself.
	Authenticate func(*http.Request) (policy.Client, error)
}

// served reports whether a target is an upstream.
func (r *Rules) served(t Target) (familiar string, ok bool) { return r.Upstream(t.String()) }

// tunnelled reports whether a target may be reached past the corridor. A host of an
// upstream never may, on whatever port, and whatever a tunnel says.
func (r *Rules) tunnelled(t Target, implied string) bool {
	if _, ok := r.Upstream(t.Host); ok {
		return false
	}
	for _, u := range r.Tunnels {
		if u.Matches(t, implied) {
			return true
		}
	}
	return false
}

// Config is what a Server is made of.
type Config struct {
	Rules func() *Rules // as of now; safe for concurrent use

	// Corridor answers one request to the upstream called familiar. A client that
	// has shown a name to the proxy is given, else nil.
	Corridor func(w http.ResponseWriter, r *http.Request, familiar string, client *policy.Client)

	// Dial connects tunnels. Nil: a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Own reports addresses that the gate itself listens on.
	Own func(net.Addr) bool

	Via   string // how the gate's own requests name it: what carries that has gone in a circle
	Log   *slog.Logger
	Meter metric.MeterProvider
}

// Server is the port that runtimes have for their HTTPS proxy, and the one to
// which their TLS is redirected. Safe for concurrent use.
type Server struct {
	config Config
	inner  *http.Server // of the requests within TLS that has been ended here
	taken  *handoff     // connections for it
	slots  chan struct{}
	counts metric.Int64Counter

	closing context.Context
	close   context.CancelFunc
	tunnels sync.WaitGroup
}

const (
	maxTunnels = 4096
	maxHeaders = 64 << 10
)

// New makes a Server that serves nothing until one of its Serve methods is called.
func New(c Config) (*Server, error) {
	counts, err := c.Meter.Meter("github.com/pullgate/pullgate").Int64Counter(
		"pullgate.intercept.connections",
		metric.WithDescription("Intercepted connections by result: served, tunnelled, refused or failed."),
	)
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}

	s := &Server{
		config: c,
		taken:  newHandoff(),
		slots:  make(chan struct{}, maxTunnels),
		counts: counts,
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.inner = s.server(http.HandlerFunc(s.within))
	s.inner.TLSConfig = &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		GetConfigForClient: s.configFor,
	}
	s.inner.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, ofConn{}, c) // a handler has no other way to the connection it answers on
	}
	return s, nil
}

// server bounds what a client may hold on to, as the corridor's own port does.
func (s *Server) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: helloTimeout,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
}

// ServeProxy answers runtimes that have l for their proxy, until l is closed.
func (s *Server) ServeProxy(l net.Listener) error {
	outer := s.server(http.HandlerFunc(s.outside))
	outer.Protocols = new(http.Protocols)
	outer.Protocols.SetHTTP1(true)
	go func() {
		<-s.closing.Done()
		_ = outer.Close()
	}()
	return ended(outer.Serve(l))
}

// ServeTLS answers connections whose client believes that it speaks to a registry,
// until l is closed.
func (s *Server) ServeTLS(l net.Listener) error {
	go func() {
		<-s.closing.Done()
		_ = l.Close()
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.closing.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		s.tunnels.Go(func() { s.redirected(conn) })
	}
}

// ServeTaken answers what is asked within the TLS that is ended here, until the
// server is shut down.
func (s *Server) ServeTaken() error { return ended(s.inner.ServeTLS(s.taken, "", "")) }

// Shutdown takes no new connections, cuts tunnels, and lets requests finish until
// ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close()
	err := s.inner.Shutdown(ctx)
	if err != nil {
		_ = s.inner.Close()
	}
	s.tunnels.Wait()
	return err
}

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) count(result string) {
	s.counts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", result)))
}

// ofConn is the key of a request's connection.
type ofConn struct{}

// intercepted is a connection that a client believes to be one to a registry.
type intercepted struct {
	net.Conn
	target Target         // that CONNECT named; zero: the handshake alone says
	client *policy.Client // that CONNECT was sent by
	named  Target         // by the handshake
}

// configFor is the certificate for one handshake. The name in it has to be that of
// CONNECT, or the client would be told that it speaks to whom it does not.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	conn, ok := hello.Conn.(*intercepted)
	if !ok {
		return nil, errors.New("a connection that was not handed over")
	}
	if hello.ServerName == "" {
		return nil, errNoServer
	}
	named, err := ParseTarget(hello.ServerName, defaultPort)
	if err != nil {
		return nil, err
	}
	if conn.target != (Target{}) {
		if named.Host != conn.target.Host {
			return nil, fmt.Errorf("CONNECT named %s and the TLS handshake %s", conn.target.Host, named.Host)
		}
		named = conn.target
	}

	rules := s.config.Rules()
	if _, ok := rules.served(named); !ok {
		return nil, fmt.Errorf("%s is no upstream", named)
	}
	leaf, err := rules.Authority.leaf(named.Host)
	if err != nil {
		s.config.Log.Error("interception", "error", err)
		return nil, err
	}
	conn.named = named

	own := s.inner.TLSConfig.Clone()
	own.GetConfigForClient = nil
	own.Certificates = []tls.Certificate{*leaf}
	return own, nil
}

const defaultPort = "443"

// within answers one request within TLS. Its Host has to be the handshake's, or a
// rule about one registry would be asked about another's images.
func (s *Server) within(w http.ResponseWriter, r *http.Request) {
	conn := connOf(r)
	if conn == nil {
		refuse(w, http.StatusInternalServerError, "the connection is not known")
		return
	}
	host, err := ParseTarget(r.Host, defaultPort)
	if err != nil || host.Host != conn.named.Host || r.URL.IsAbs() && r.URL.Host != r.Host {
		refuse(w, http.StatusMisdirectedRequest, "this connection is for "+conn.named.Host+" alone")
		return
	}
	if s.circled(r) {
		refuse(w, http.StatusLoopDetected, "the gate's own requests lead back to it: redirect those of others alone")
		return
	}

	familiar, ok := s.config.Rules().served(conn.named)
	if !ok {
		refuse(w, http.StatusMisdirectedRequest, conn.named.String()+" is no upstream any more")
		return
	}
	s.config.Corridor(w, r, familiar, conn.client)
}

// connOf is the connection that a request came on.
func connOf(r *http.Request) *intercepted {
	c, _ := r.Context().Value(ofConn{}).(net.Conn)
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	conn, _ := c.(*intercepted)
	return conn
}

// handoff is a listener whose connections others have accepted.
type handoff struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give hands a connection over, and reports false where none is taken any more.
func (h *handoff) give(c net.Conn) bool {
	select {
	case h.conns <- c:
		return true
	case <-h.closed:
		return false
	}
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (*handoff) Addr() net.Addr { return &net.TCPAddr{} }
