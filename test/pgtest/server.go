// Package pgtest runs a real PostgreSQL for tests: Debian's, on a free port of
// loopback, in a folder of its own, as a user that is not root.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long a server may take to begin, and to end.
const patience = time.Minute

// Server is one PostgreSQL server. Its methods are for one goroutine.
type Server struct {
	Port string

	dir  string
	data string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	log  string
}

// Need skips the test where PostgreSQL's server is not installed, and fails it
// under PULLGATE_E2E=1.
func Need(t testing.TB) {
	t.Helper()
	if _, err := program("initdb"); err != nil {
		if os.Getenv("PULLGATE_E2E") == "1" {
			t.Fatal("it needs PostgreSQL's server; .ci/install brings it")
		}
		t.Skip("it needs PostgreSQL's server, which is not installed here")
	}
}

// program finds one of the server's programs, which Debian keeps out of the PATH.
func program(name string) (string, error) {
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		return "", errors.New(name + " is not installed")
	}
	return found[len(found)-1], nil
}

// New makes a server that is not started. It ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := newServer(t)
	s.Init(t)
	return s
}

// Start makes a server and starts it.
func Start(t testing.TB) *Server {
	t.Helper()
	s := New(t)
	s.Up(t)
	return s
}

func newServer(t testing.TB) *Server {
	t.Helper()
	Need(t)
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &Server{
		Port: freePort(t),
		dir:  dir,
		data: filepath.Join(dir, "data"),
		log:  filepath.Join(dir, "log"),
	}
	if c := credential(); c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Init makes an empty data folder in place of what is there.
func (s *Server) Init(t testing.TB) {
	t.Helper()
	if err := os.RemoveAll(s.data); err != nil {
		t.Fatal(err)
	}
	s.run(t, "initdb", "--no-sync", "--auth=trust", "--username=gate", "--encoding=UTF8", "--locale=C", "-D", s.data)
}

// Up starts the server, with settings of PostgreSQL, and returns when it answers.
func (s *Server) Up(t testing.TB, settings ...string) {
	t.Helper()
	name, err := program("postgres")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-D", s.data, "-p", s.Port, "-h", "127.0.0.1", "-k", ""}
	for _, setting := range append([]string{"autovacuum=on", "max_connections=60"}, settings...) {
		args = append(args, "-c", setting)
	}

	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the tests look at what it did, not at how it ended
		close(done)
	}()
	s.cmd, s.done = cmd, done
	s.await(t)
}

// await returns when the server answers.
func (s *Server) await(t testing.TB) {
	t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.done:
			text, _ := os.ReadFile(s.log)
			t.Fatalf("PostgreSQL has ended:\n%s", text)
		default:
		}
		if last = s.query(t, "SELECT 1"); last == nil {
			return
		}
	}
	t.Fatalf("PostgreSQL does not answer: %v", last)
}

// URL is how a gate calls the database; more are parameters of the URL.
func (s *Server) URL(more ...string) string { return URL("127.0.0.1:"+s.Port, more...) }

// URL is how a gate calls the database that listens at addr.
func URL(addr string, more ...string) string {
	return "postgres://gate@" + addr + "/postgres?" + strings.Join(append([]string{"sslmode=disable"}, more...), "&")
}

// Schema makes a schema of its own, and returns the parameter that chooses it.
func (s *Server) Schema(t testing.TB, name string) string {
	t.Helper()
	s.SQL(t, "CREATE SCHEMA "+name)
	return "search_path=" + url.QueryEscape(name)
}

// SQL runs statements.
func (s *Server) SQL(t testing.TB, text string) {
	t.Helper()
	if err := s.query(t, text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func (s *Server) query(t testing.TB, text string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL("default_transaction_read_only=off"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, text)
	return err
}

// Value is the number that a query answers.
func (s *Server) Value(t testing.TB, text string) (n int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), text).Scan(&n); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return n
}

// Stop ends the server in PostgreSQL's fast way.
func (s *Server) Stop(t testing.TB) { s.end(t, syscall.SIGINT) }

// Kill ends the server as a crash would.
func (s *Server) Kill(t testing.TB) { s.end(t, syscall.SIGQUIT) }

func (s *Server) end(t testing.TB, how syscall.Signal) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	s.Resume(t) // a stopped one would not hear it
	_ = s.cmd.Process.Signal(how)
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Error("PostgreSQL does not end")
		_ = s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// Pause stops every process of the server: connections are taken, and nothing
// answers.
func (s *Server) Pause(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	pid := s.cmd.Process.Pid
	_ = syscall.Kill(pid, signal)
	for _, child := range children(t, pid) {
		_ = syscall.Kill(child, signal) // it may have ended
	}
}

// children are the processes that pid has started; each of PostgreSQL's leads a
// group of its own.
func children(t testing.TB, pid int) (list []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			list = append(list, child)
		}
	}
	return list
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := program(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// credential is whom the server runs as; nil for the user of the test. PostgreSQL
// refuses root.
func credential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return nil
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// ReadOnly makes every transaction from now on one that may not write: on or off.
func (s *Server) ReadOnly(t testing.TB, value string) {
	t.Helper()
	s.SQL(t, "ALTER SYSTEM SET default_transaction_read_only = "+value)
	s.SQL(t, "SELECT pg_reload_conf()")
}
