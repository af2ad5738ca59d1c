package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	drain         = 5 * time.Second
	verifyTimeout = 5 * time.Second
)

// gate is the built pullgate before one registry, which images call reg.test:
// one process after the other on the same ports and state.
type gate struct {
	addr, admin string
	dir         string // configuration, policies, keys, state
	truth       *truth
	log         *tail

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a left-over folder is no test result
	}
	os.Exit(code)
}

func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "pullgate-soak-"); built.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", built.dir, "github.com/pullgate/pullgate/cmd/pullgate")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build pullgate: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "pullgate")
}

// startGate starts a gate before the registry at upstream that enforces
// signatures by A.
func startGate(t *testing.T, w *world, upstream string) *gate {
	t.Helper()
	g := &gate{addr: freeAddr(t), admin: freeAddr(t), dir: t.TempDir(), truth: &truth{}, log: &tail{}}
	for _, letter := range []string{"A", "B"} {
		g.write(t, strings.ToLower(letter)+".pub", w.public(t, letter))
	}
	g.write(t, "current.pub", w.public(t, "A"))
	g.write(t, "pullgate.yaml", fmt.Sprintf(`
listen: %s
admin: {listen: "%s"}
log: {format: json}
drain: %s
upstreams: [{host: reg.test, url: "http://%s"}]
policyFiles: ["policies/*.yaml"]
state: {path: state}
limits: {clientMisses: 1000000, verifyTimeout: %s}
`, g.addr, g.admin, drain, upstream, verifyTimeout))
	g.put(t, revision{keys: "A"})
	t.Cleanup(func() {
		if g.cmd != nil {
			_ = g.cmd.Process.Kill() // it may have ended by itself
			<-g.done
		}
		if t.Failed() {
			t.Logf("the gate's last words that were no pulls:\n%s", g.log.other())
		}
	})
	g.up(t)
	if !g.confirm(10 * time.Second) {
		t.Fatalf("the gate does not answer:\n%s", g.log.other())
	}
	return g
}

// freeAddr is outside the range outgoing connections take their ports from:
// a thousand clients would else take it while the gate is down.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := "127.0.0.1:" + strconv.Itoa(20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// write replaces a file of the configuration at once, as an editor does.
func (g *gate) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(g.dir, ".part")
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, file); err != nil {
		t.Fatal(err)
	}
}

// put writes a revision. Its number is the name of a policy that refuses one
// repository unseen, so that the gate itself says which revision is in force.
func (g *gate) put(t *testing.T, r revision) {
	t.Helper()
	g.truth.written(r)
	if r.keyFile {
		text, err := os.ReadFile(filepath.Join(g.dir, strings.ToLower(r.keys)+".pub"))
		if err != nil {
			t.Fatal(err)
		}
		g.write(t, "current.pub", string(text))
	}
	g.write(t, "policies/soak.yaml", g.policies(r))
}

func (g *gate) policies(r revision) string {
	files := []string{"../current.pub"}
	if !r.keyFile {
		files = nil
		for _, letter := range r.keys {
			files = append(files, "../"+strings.ToLower(string(letter))+".pub")
		}
	}
	mode := "enforce"
	if r.warn {
		mode = "warn"
	}
	return fmt.Sprintf(`
- name: revision-%d
  images: ["reg.test/revision"]
  static: deny
- name: signed
  images: ["reg.test/soak/**"]
  mode: %s
  authorities: [{name: release, keys: [%s]}]
`, r.number, mode, strings.Join(files, ", "))
}

// inForce is the number of the revision that the gate answers by.
func (g *gate) inForce() (int, error) {
	resp, err := admin.Get("http://" + g.addr + "/v2/reg.test/revision/manifests/any")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var said struct {
		Errors []struct{ Detail struct{ Policy string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || len(said.Errors) != 1 {
		return 0, fmt.Errorf("%s: %w", resp.Status, err)
	}
	return strconv.Atoi(strings.TrimPrefix(said.Errors[0].Detail.Policy, "revision-"))
}

// confirm waits until the newest revision is in force, and writes that down.
func (g *gate) confirm(patience time.Duration) bool {
	want := g.truth.newest().number
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n, err := g.inForce(); err == nil && n == want {
			g.truth.confirmed()
			return true
		}
	}
	return false
}

// ready is what /readyz says.
func (g *gate) ready() (string, error) {
	resp, err := admin.Get("http://" + g.admin + "/readyz")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// admin is the test's own way to the gate; it leaves no connection behind.
var admin = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (g *gate) up(t *testing.T) {
	t.Helper()
	g.cmd, g.done = exec.Command(
		binary(t),
		"serve",
		"--config",
		filepath.Join(g.dir, "pullgate.yaml"),
	), make(
		chan struct{},
	)
	g.cmd.Stdout, g.cmd.Stderr = g.log, g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatalf("start pullgate: %v", err)
	}
	go func() {
		_ = g.cmd.Wait() // who ended it looks at the code
		close(g.done)
	}()
}

func (g *gate) signal(s syscall.Signal) { _ = g.cmd.Process.Signal(s) } // gone: the next look finds out

// end stops the process and reports how it ended: 0 after SIGTERM.
func (g *gate) end(t *testing.T, s syscall.Signal) {
	t.Helper()
	began := time.Now()
	g.signal(s)
	select {
	case <-g.done:
	case <-time.After(drain + 10*time.Second):
		_ = g.cmd.Process.Kill()
		<-g.done
		t.Errorf("the gate is still there %s after %s, with drain: %s", time.Since(began), s, drain)
		return
	}
	if code := g.cmd.ProcessState.ExitCode(); s == syscall.SIGTERM && code != 0 {
		t.Errorf("after %s the gate ended with %s, not with code 0:\n%s", s, g.cmd.ProcessState, g.log.other())
	}
}

// numbers are what must not grow.
type numbers struct{ goroutines, files, memory float64 }

func (n numbers) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f open files, %.1f MiB resident", n.goroutines, n.files, n.memory/(1<<20))
}

func (g *gate) numbers() (numbers, error) {
	resp, err := admin.Get("http://" + g.admin + "/metrics")
	if err != nil {
		return numbers{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return numbers{}, err
	}
	var n numbers
	for name, to := range map[string]*float64{
		"go_goroutines":                 &n.goroutines,
		"process_open_fds":              &n.files,
		"process_resident_memory_bytes": &n.memory,
	} {
		_, rest, ok := strings.Cut("\n"+string(b), "\n"+name+" ")
		if !ok {
			return numbers{}, fmt.Errorf("/metrics does not have %s", name)
		}
		text, _, _ := strings.Cut(rest, "\n")
		if *to, err = strconv.ParseFloat(text, 64); err != nil {
			return numbers{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return n, nil
}

// settled reads the numbers of an idle gate once they stand still, or fit.
func (g *gate) settled(t *testing.T, fit func(numbers) bool) numbers {
	t.Helper()
	var last numbers
	same := 0
	for range 150 {
		n, err := g.numbers()
		if err != nil {
			t.Fatal(err)
		}
		if n.goroutines == last.goroutines && n.files == last.files {
			same++
		} else {
			same = 0
		}
		if last = n; fit == nil && same == 5 || fit != nil && fit(n) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return last
}

// tail keeps the end of a gate's log, and more of what is no pull.
type tail struct {
	mu         sync.Mutex
	rest       []byte // a line that has not ended
	pulls, few []string
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		line := string(l.rest[:i])
		l.rest = l.rest[i+1:]
		to := &l.few
		if strings.Contains(line, `"msg":"pull"`) {
			to = &l.pulls
		}
		if *to = append(*to, line); len(*to) > 20_000 {
			*to = append([]string(nil), (*to)[10_000:]...)
		}
	}
}

func (l *tail) other() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.few[max(0, len(l.few)-40):], "\n")
}

// decision is the line about one decision, when it is out.
func (l *tail) decision(id string) string {
	if id == "" {
		return "(the answer carries no decision)"
	}
	for range 50 {
		l.mu.Lock()
		for i := len(l.pulls) - 1; i >= 0; i-- {
			if strings.Contains(l.pulls[i], id) {
				defer l.mu.Unlock()
				return l.pulls[i]
			}
		}
		l.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	return "(the log has no decision " + id + ")"
}
