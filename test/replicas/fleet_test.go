package replicas

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/test/pgtest"
)

// patience is how long something may take that is waited for.
const patience = 30 * time.Second

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

func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "pullgate-replicas-"); built.err != nil {
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

// image is an index of two platforms, which share a layer.
type image struct {
	repo     string
	index    digest.Digest
	signed   bool
	children []hostile.Image
}

// paths are the requests of a pull, in a runtime's order.
func (i image) paths() []string {
	list := []string{i.repo + "/manifests/v1", i.repo + "/manifests/" + i.index.String()}
	for _, c := range i.children {
		list = append(list, i.repo+"/manifests/"+c.Digest.String())
		for _, d := range append([]digest.Digest{c.Config}, c.Layers...) {
			list = append(list, i.repo+"/blobs/"+d.String())
		}
	}
	return list
}

// fleet is a registry and several gates before it, which share a database.
type fleet struct {
	registry *hostile.Registry
	addr     string // of the registry
	key      *ecdsa.PrivateKey
	gates    []*gate

	turn    atomic.Int64
	asked   atomic.Int64
	forgets atomic.Bool // the registry does not count what it is asked
	made    int
}

// needTime skips the test where no one waits for it.
func needTime(t testing.TB) {
	t.Helper()
	if os.Getenv("PULLGATE_E2E") != "1" {
		t.Skip("it takes a while: PULLGATE_E2E=1 runs it")
	}
}

func startDatabase(t testing.TB) *pgtest.Server {
	t.Helper()
	needTime(t)
	return pgtest.Start(t)
}

// startFleet starts so many gates. more is added to their configuration.
func startFleet(t testing.TB, gates int, database string, more ...string) *fleet {
	t.Helper()
	needTime(t)
	f := &fleet{registry: hostile.New()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.forgets.Load() && f.asked.Add(1)%64 == 0 {
			f.registry.Forget() // its log grows
		}
		f.registry.ServeHTTP(w, r)
	}))
	f.addr = strings.TrimPrefix(server.URL, "http://")
	t.Cleanup(func() {
		f.registry.Close()
		server.CloseClientConnections()
		server.Close()
	})
	var err error
	if f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range gates {
		g := f.newGate(t, database, more...)
		f.gates = append(f.gates, g)
	}
	_ = binary(t)
	for _, g := range f.gates {
		all.Go(func() { g.up(t) })
	}
	all.Wait()
	return f
}

// push makes an image; an unsigned one is to be refused.
func (f *fleet) push(signed bool) image {
	f.made++
	i := image{repo: fmt.Sprintf("fleet/r%03d", f.made), signed: signed}
	shared := bytes.Repeat([]byte(rand.Text()), 100)
	var digests []digest.Digest
	for range 2 {
		c := f.registry.PushImage(i.repo, "", shared, bytes.Repeat([]byte(rand.Text()), 100))
		i.children = append(i.children, c)
		digests = append(digests, c.Digest)
	}
	i.index = f.registry.PushIndex(i.repo, "v1", digests...)
	if signed {
		f.registry.Sign(i.repo, i.index, f.key)
	}
	return i
}

func (f *fleet) pushMany(n int) (list []image) {
	for range n {
		list = append(list, f.push(true))
	}
	return list
}

// next is the gate that a client without ties is sent to.
func (f *fleet) next() *gate { return f.gates[int(f.turn.Add(1))%len(f.gates)] }

// gate is one pullgate process after the other on the same ports and state.
type gate struct {
	addr, admin string
	config      string
	log         *logBuffer
	cmd         *exec.Cmd
	done        chan struct{}
}

func (f *fleet) newGate(t testing.TB, database string, more ...string) *gate {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(f.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "key.pub"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	g := &gate{
		addr:   freeAddr(t),
		admin:  freeAddr(t),
		config: filepath.Join(dir, "pullgate.yaml"),
		log:    &logBuffer{},
	}
	text := fmt.Sprintf(`
listen: %s
admin: {listen: %q}
log: {format: json}
drain: 2s
database: %q
upstreams: [{host: reg.test, url: "http://%s"}]
limits: {clientMisses: 1000000}
decisions: {to: none}
policies:
  - name: signed
    images: ["reg.test/**"]
    authorities: [{name: release, key: key.pub}]
%s`, g.addr, g.admin, database, f.addr, strings.Join(more, "\n"))
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stop(t, syscall.SIGTERM)
		if t.Failed() {
			text := g.log.String()
			t.Logf("what a gate printed:\n%s", text[max(0, len(text)-3000):])
		}
	})
	return g
}

func (g *gate) up(t testing.TB) {
	t.Helper()
	cmd := exec.Command(binary(t), "serve", "--config", g.config)
	cmd.Stdout, cmd.Stderr = g.log, g.log
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the tests look at what it did
		close(done)
	}()
	g.cmd, g.done = cmd, done
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get("http://" + g.addr + "/v2/"); err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-done:
			t.Errorf("the gate has ended:\n%s", g.log.String())
			return
		default:
		}
	}
	t.Errorf("the gate does not answer:\n%s", g.log.String())
}

// run runs the gate until it ends by itself.
func (g *gate) run(t testing.TB) (out string, code int) {
	t.Helper()
	cmd := exec.Command(binary(t), "serve", "--config", g.config)
	cmd.WaitDelay = time.Second
	end := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer end.Stop()
	text, err := cmd.CombinedOutput()
	if err == nil {
		return string(text), 0
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func (g *gate) stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Signal(signal)
	select {
	case <-g.done:
	case <-time.After(patience):
		t.Error("a gate does not end")
		_ = g.cmd.Process.Kill()
		<-g.done
	}
	g.cmd = nil
}

// noConnections makes every request a new one: a balancer chooses anew each time.
var client = &http.Client{Timeout: patience}

// get asks one gate; 0: no answer.
func (g *gate) get(path string) (status int, body []byte) {
	resp, err := client.Get("http://" + g.addr + "/v2/reg.test/" + path)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil
	}
	return resp.StatusCode, body
}

// ready is what /readyz answers.
func (g *gate) ready() int {
	resp, err := client.Get("http://" + g.admin + "/readyz")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// metrics is what /metrics says.
func (g *gate) metrics(t testing.TB) string {
	t.Helper()
	resp, err := client.Get("http://" + g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

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

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually fails the test when what is asked is not so within patience.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Errorf("it is not so within %s: %s", patience, what)
}
