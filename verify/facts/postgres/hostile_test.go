package postgres_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

var hostileRepo = policy.Repository{Host: "r.example", Path: "a"}

// openFake opens a store at a server that sends these bytes to everyone, and then
// listens.
func openFake(t *testing.T, says []byte, passwordFile string) *postgres.Store {
	t.Helper()
	return openServed(t, passwordFile, func(conn net.Conn) {
		_, _ = conn.Write(says)
		_, _ = io.Copy(io.Discard, conn)
	})
}

func openServed(t *testing.T, passwordFile string, serve func(net.Conn)) *postgres.Store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				start := make([]byte, 4)
				if _, err := io.ReadFull(conn, start); err != nil {
					return
				}
				_, _ = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(start))-4)
				serve(conn)
			}()
		}
	}()
	s, err := postgres.Open(postgres.Config{
		URL:          "postgres://gate@" + l.Addr().String() + "/facts?sslmode=disable",
		PasswordFile: passwordFile,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// message is one of PostgreSQL's protocol, whose length is told as it is.
func message(kind byte, body string) []byte {
	head := append([]byte{kind}, binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))...)
	return append(head, body...)
}

// welcome lets a client in.
func welcome() []byte {
	return append(message('R', "\x00\x00\x00\x00"), message('Z', "I")...)
}

// TestHostileServer: a server that lies about lengths, or never ends, costs neither
// memory nor more time than is given.
func TestHostileServer(t *testing.T) {
	huge := func(kind byte) []byte { return []byte{kind, 0x3f, 0xff, 0xff, 0xff} }
	after := func(lie []byte) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = conn.Write(welcome())
			_, _ = conn.Read(make([]byte, 1))
			_, _ = conn.Write(lie)
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	endless := func(what []byte) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = conn.Write(welcome())
			for {
				if _, err := conn.Write(what); err != nil {
					return
				}
			}
		}
	}
	cases := map[string]func(net.Conn){
		"a huge row":             after(huge('D')),
		"a huge description":     after(huge('T')),
		"a huge error":           after(huge('E')),
		"a huge notice":          after(huge('N')),
		"endless notices":        endless(message('N', "SNOTICE\x00Mhello\x00\x00")),
		"endless settings":       endless(message('S', "a\x00b\x00")),
		"nothing":                func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"nothing after the door": after(nil),
		"the end":                func(net.Conn) {},
		"a huge greeting": func(conn net.Conn) {
			_, _ = conn.Write(huge('R'))
			_, _ = io.Copy(io.Discard, conn)
		},
	}

	var before, later runtime.MemStats
	runtime.ReadMemStats(&before)
	t.Run("cases", func(t *testing.T) {
		for name, serve := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				askHostile(t, openServed(t, "", serve))
			})
		}
	})
	runtime.ReadMemStats(&later)
	if got := later.TotalAlloc - before.TotalAlloc; got > 512<<20 {
		t.Errorf("they took %d MiB", got>>20)
	}
}

func askHostile(t *testing.T, s *postgres.Store) {
	t.Helper()
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		start := time.Now()
		if _, err := s.Parents(ctx, hostileRepo, facts.PartBlob, digest.FromString("x")); err == nil {
			t.Error("it is an answer")
		}
		if took := time.Since(start); took > soon {
			t.Errorf("it took %s", took)
		}
		cancel()
	}
}

// TestCircuit: after three failures no pull waits for the database, until it answers
// a pulse.
func TestCircuit(t *testing.T) {
	t.Parallel()
	s := openServed(t, "", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	ask := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := s.Parents(ctx, hostileRepo, facts.PartBlob, digest.FromString("x"))
		return err
	}
	for n := range 3 {
		if err := ask(); err == nil || errors.Is(err, postgres.ErrOpen) {
			t.Fatalf("question %d: %v", n, err)
		}
	}
	if err := ask(); !errors.Is(err, postgres.ErrOpen) {
		t.Errorf("the fourth: %v; want it not to be asked", err)
	}

	left, leave := context.WithCancel(t.Context())
	leave()
	s = openServed(t, "", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for range 10 {
		_, _ = s.Parents(left, hostileRepo, facts.PartBlob, digest.FromString("x"))
	}
	if err := ask(); errors.Is(err, postgres.ErrOpen) {
		t.Error("clients that left have opened the circuit")
	}
}
