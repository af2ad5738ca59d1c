package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a server that a test has started and that ends with it.
type process struct {
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
}

// logBuffer gathers a process's output while tests read it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func start(t *testing.T, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), log: &logBuffer{}}
	p.cmd.Env = append(os.Environ(), env...)
	p.run(t)
	return p
}

// run starts the command, which ends with the test.
func (p *process) run(t *testing.T) {
	t.Helper()
	p.done = make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.cmd.Path, err)
	}
	go func() {
		_ = p.cmd.Wait() // the tests look at what it did, not at how it ended
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("what %s printed:\n%s", p.cmd.Path, tail(p.log.String(), 8000))
		}
	})
}

// stop signals the process and waits for its end, then kills it.
func (p *process) stop(t *testing.T, signal syscall.Signal) {
	t.Helper()
	_ = p.cmd.Process.Signal(signal) // it may have ended by itself
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// freePort is a port that nobody listens on at the moment.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// waitHTTP returns when url answers at all.
func waitHTTP(t *testing.T, p *process, url string) {
	t.Helper()
	for range 600 {
		if resp, err := http.Get(url); err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended instead of answering %s:\n%s", p.cmd.Path, url, tail(p.log.String(), 4000))
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s does not answer within 12 s:\n%s", url, tail(p.log.String(), 4000))
}

func waitFile(t *testing.T, p *process, file string) {
	t.Helper()
	for range 500 {
		if _, err := os.Stat(file); err == nil {
			return
		}
		select {
		case <-p.done:
			t.Fatalf("%s ended:\n%s", p.cmd.Path, tail(p.log.String(), 4000))
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatal(fmt.Sprint("no ", file, " within 10 s:\n", tail(p.log.String(), 4000)))
}
