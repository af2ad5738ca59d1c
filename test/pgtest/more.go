package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
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
