package intercept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	tunnelIdle  = 15 * time.Minute // without a byte in either direction
)

var errOwn = errors.New("it leads back to this machine's own proxy")

// dial connects to a tunnel's host, unless that is a port of the gate's own: a
// tunnel into the gate has no end.
func (s *Server) dial(ctx context.Context, network, address string) (net.Conn, error) {
	connect := s.config.Dial
	if connect == nil {
		connect = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	conn, err := connect(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if conn.RemoteAddr().String() == conn.LocalAddr().String() || s.config.Own(conn.RemoteAddr()) {
		_ = conn.Close()
		return nil, errOwn
	}
	return conn, nil
}

// open tunnels a client that has sent CONNECT.
func (s *Server) open(w http.ResponseWriter, r *http.Request, target Target) {
	if !s.enter() {
		s.refuseTarget(w, r, http.StatusServiceUnavailable, "too many tunnels are open")
		return
	}
	far, err := s.dial(r.Context(), "tcp", target.String())
	if err != nil {
		s.leave()
		s.count("failed")
		s.config.Log.Info("tunnel", "target", target.String(), "client", r.RemoteAddr, "error", err)
		refuse(w, http.StatusBadGateway, target.String()+" cannot be reached")
		return
	}
	near, err := hijack(w)
	if err != nil {
		s.leave()
		s.count("failed")
		_ = far.Close()
		return
	}

	s.tunnels.Go(func() {
		defer s.leave()
		s.through(near, far, target)
	})
}

// through copies both ways. Where the client begins with TLS, it has to name the
// host of CONNECT: behind one address stand others, too.
func (s *Server) through(near, far net.Conn, target Target) {
	name, again, err := peek(s.closing, near)
	if err != nil && !errors.Is(err, errNoTLS) {
		s.count("failed")
		_, _ = near.Close(), far.Close()
		return
	}
	if err == nil {
		named, err := ParseTarget(name, target.Port)
		if err != nil || named.Host != target.Host {
			s.count("refused")
			s.config.Log.Warn("interception refused", "target", target.String(), "client", near.RemoteAddr().String(),
				"error", fmt.Sprintf("CONNECT named %s and the TLS handshake %.100q", target.Host, name))
			_, _ = near.Write(unrecognized)
			_, _ = near.Close(), far.Close()
			return
		}
	}

	s.count("tunnelled")
	s.join(again, far)
}

// redirected answers a connection whose client wanted to go elsewhere.
func (s *Server) redirected(conn net.Conn) {
	if !s.enter() {
		_ = conn.Close()
		return
	}
	left := false
	leave := func() {
		if !left {
			left = true
			s.leave()
		}
	}
	defer leave()

	name, again, err := peek(s.closing, conn)
	if err != nil {
		s.count("failed")
		s.config.Log.Debug("redirected connection", "client", conn.RemoteAddr().String(), "error", err)
		_ = conn.Close()
		return
	}

	rules := s.config.Rules()
	target, err := ParseTarget(name, defaultPort)
	if err == nil {
		if _, ok := rules.served(target); ok {
			s.count("served")
			leave()
			if !s.taken.give(&intercepted{Conn: again}) {
				_ = conn.Close()
			}
			return
		}
	}
	if err != nil || !rules.tunnelled(target, defaultPort) {
		s.count("refused")
		s.config.Log.Warn("interception refused", "target", name, "client", conn.RemoteAddr().String(),
			"error", "it is neither an upstream nor listed under intercept.tunnel")
		_, _ = conn.Write(unrecognized)
		_ = conn.Close()
		return
	}

	far, err := s.dial(s.closing, "tcp", target.String())
	if err != nil {
		s.count("failed")
		s.config.Log.Info("tunnel", "target", target.String(), "client", conn.RemoteAddr().String(), "error", err)
		_ = conn.Close()
		return
	}
	s.count("tunnelled")
	s.join(again, far)
}

// join copies until both sides have ended, one is silent for too long, or the
// server closes.
func (s *Server) join(near, far net.Conn) {
	stop := context.AfterFunc(s.closing, func() { _, _ = near.Close(), far.Close() })
	defer stop()

	var both sync.WaitGroup
	both.Go(func() { pass(far, near) })
	both.Go(func() { pass(near, far) })
	both.Wait()
	_, _ = near.Close(), far.Close()
}

// pass copies one way. Each piece moves the deadline of both ends: a download is
// silent in one direction.
func pass(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		deadline := time.Now().Add(tunnelIdle)
		_, _ = from.SetDeadline(deadline), to.SetDeadline(deadline)
		n, err := from.Read(buffer)
		if n > 0 {
			if _, werr := to.Write(buffer[:n]); werr != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				closeWrite(to)
				return
			}
			_, _ = from.Close(), to.Close()
			return
		}
	}
}

// closeWrite says that no more comes, and lets the other direction go on.
func closeWrite(c net.Conn) {
	if r, ok := c.(*replayed); ok {
		c = r.Conn
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
		return
	}
	_ = c.Close()
}

// enter takes a slot for a connection that is not the corridor's, and leave gives
// it back.
func (s *Server) enter() bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *Server) leave() { <-s.slots }
