package intercept

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

const (
	helloTimeout = 10 * time.Second
	maxHello     = 64 << 10 // bytes of a ClientHello, which may hold large post-quantum shares
)

var (
	errSeen     = errors.New("the hello was seen")
	errNoTLS    = errors.New("the connection does not begin with a TLS handshake")
	errNoServer = errors.New("the TLS handshake names no server: the client's name for the registry is an address?")
)

// peek reads a connection's ClientHello and returns the server name in it, with a
// connection that begins at its first byte again. Nothing is written.
func peek(ctx context.Context, conn net.Conn) (name string, again net.Conn, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return "", nil, err
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return "", nil, err
	}

	read := bytes.NewBuffer(first)
	rest := io.TeeReader(io.LimitReader(conn, maxHello), read)
	replay := func() net.Conn { return &replayed{Conn: conn, r: io.MultiReader(bytes.NewReader(read.Bytes()), conn)} }
	const handshake = 22 // the type of a record, RFC 8446 section 5.1
	if first[0] != handshake {
		return "", replay(), errNoTLS
	}

	seen := false
	err = tls.Server(&onlyReads{r: io.MultiReader(bytes.NewReader([]byte{handshake}), rest)}, &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name, seen = hello.ServerName, true
			return nil, errSeen
		},
	}).HandshakeContext(ctx)
	if !seen {
		return "", nil, err
	}
	return name, replay(), conn.SetReadDeadline(time.Time{})
}

// replayed is a connection of which some bytes were read already.
type replayed struct {
	net.Conn
	r io.Reader
}

// Read implements net.Conn.
func (c *replayed) Read(p []byte) (int, error) { return c.r.Read(p) }

// onlyReads is a connection that is read and never answered.
type onlyReads struct {
	net.Conn // nil: what the handshake does not call
	r        io.Reader
}

func (c *onlyReads) Read(p []byte) (int, error) { return c.r.Read(p) }

func (*onlyReads) Write([]byte) (int, error)        { return 0, io.ErrClosedPipe }
func (*onlyReads) Close() error                     { return nil }
func (*onlyReads) SetDeadline(time.Time) error      { return nil }
func (*onlyReads) SetReadDeadline(time.Time) error  { return nil }
func (*onlyReads) SetWriteDeadline(time.Time) error { return nil }

// unrecognized is the TLS alert by which a server says that it does not serve a
// name (RFC 6066, section 3).
var unrecognized = []byte{21, 3, 3, 0, 2, 2, 112}
