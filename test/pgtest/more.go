package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Standby makes and starts a server that follows s.
func (s *Server) Standby(t testing.TB) *Server {
	t.Helper()
	standby := newServer(t)
	standby.run(t, "pg_basebackup", "-h", "127.0.0.1", "-p", s.Port, "-U", "gate", "-D", standby.data, "-R",
		"--no-sync", "-X", "stream", "--checkpoint=fast")
	standby.Up(t)
	return standby
}

// Allow puts a line before those that say who may connect, and how.
func (s *Server) Allow(t testing.TB, line string) {
	t.Helper()
	file := filepath.Join(s.data, "pg_hba.conf")
	rest, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte(line+"\n"), rest...), 0o600); err != nil {
		t.Fatal(err)
	}
	s.SQL(t, "SELECT pg_reload_conf()")
}

// Promote makes a standby the primary.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.run(t, "pg_ctl", "promote", "-D", s.data, "-w")
}

// StartSmall starts a server on a disk of so many MiB. It needs root.
func StartSmall(t testing.TB, size int) *Server {
	t.Helper()
	s := newServer(t)
	owner := "mode=0755"
	if c := credential(); c != nil {
		owner = fmt.Sprintf("uid=%d,gid=%d,mode=0755", c.Uid, c.Gid)
	}
	options := fmt.Sprintf("size=%dm,%s", size, owner)
	if err := syscall.Mount("tmpfs", s.dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		s.Kill(t)
		if err := syscall.Unmount(s.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s.Init(t)
	s.Up(t)
	return s
}

// Fill leaves nothing of the server's disk.
func (s *Server) Fill(t testing.TB) {
	t.Helper()
	f, err := os.Create(filepath.Join(s.dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// Free gives the disk back. A server that could not go on is started again.
func (s *Server) Free(t testing.TB) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.done:
		s.Up(t)
	default:
		s.await(t)
	}
}

// UpTLS starts the server with a certificate of its own for localhost, and takes no
// connection without TLS. It returns the file of the CA.
func (s *Server) UpTLS(t testing.TB) (caFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}

	caFile, keyFile := filepath.Join(s.dir, "server.pem"), filepath.Join(s.dir, "server.key")
	s.write(t, caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	s.write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	s.Up(t, "ssl=on", "ssl_cert_file="+caFile, "ssl_key_file="+keyFile)
	s.Allow(t, "hostnossl all careful 127.0.0.1/32 reject")
	return caFile
}

// write writes a file that only the server's user can read.
func (s *Server) write(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := credential(); c != nil {
		if err := os.Chown(file, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}
