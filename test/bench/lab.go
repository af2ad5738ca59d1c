package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	host        = "reg.example" // what the gate calls the registry
	connections = 32            // that ask at once
)

// lab is what the measurements share: a built gate, a registry, a key.
type lab struct {
	dir      string // temporary, gone at the end
	module   string // the repository's folder
	gateFile string
	before   string // an earlier pullgate to compare with; empty: none
	keyFile  string
	span     time.Duration
	rounds   int
	table    table

	registry *process
	push     push
	big      *image // once it is needed
	started  []*process
}

func newLab(ctx context.Context, span time.Duration, rounds int, before string) (_ *lab, err error) {
	l := &lab{span: span, rounds: rounds, before: before}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module: run this inside the repository: %w", err)
	}
	l.module = strings.TrimSpace(string(out))
	if l.dir, err = os.MkdirTemp("", "pullgate-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	l.gateFile = filepath.Join(l.dir, "pullgate")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", l.gateFile, "./cmd/pullgate")
	build.Dir, build.Env = l.module, append(os.Environ(), "CGO_ENABLED=0") // as `make build`
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the gate: %w\n%s", err, out)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	l.keyFile = filepath.Join(l.dir, "bench.pub")
	if err := os.WriteFile(l.keyFile, pem.EncodeToMemory(&pem.Block{
		Type:  "PUBLIC KEY",
		Bytes: der,
	}), 0o600); err != nil {
		return nil, err
	}
	if l.registry, err = l.self(ctx, "registry"); err != nil {
		return nil, err
	}
	l.push = push{base: l.registry.base, key: key}
	return l, nil
}

// Close ends what was started and removes what was written.
func (l *lab) Close() {
	for i := len(l.started) - 1; i >= 0; i-- {
		l.started[i].stop()
	}
	_ = os.RemoveAll(l.dir)
}

// process is a server in a process of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	addr  string
	base  string // http://addr
	log   string // file of its output, or empty
	ended chan struct{}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks, waits, and then insists.
func (p *process) stop() {
	if p.stdin != nil {
		_ = p.stdin.Close()
	}
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

func (l *lab) start(cmd *exec.Cmd, addr, log string) (*process, error) {
	p := &process{
		cmd:   cmd,
		addr:  addr,
		base:  "http://" + addr,
		log:   log,
		ended: make(chan struct{}),
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // how it ended shows where it is used
		close(p.ended)
	}()
	l.started = append(l.started, p)
	return p, nil
}

// self starts this program as a child in one of its roles.
func (l *lab) self(_ context.Context, role ...string) (*process, error) {
	me, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(me, append([]string{"child"}, role...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd.Stdout = write
	p, err := l.start(cmd, "", "")
	_ = write.Close() // the child has it now
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role[0], err)
	}
	p.addr = strings.TrimSpace(line)
	p.base = "http://" + p.addr
	return p, nil
}

// gateConfig is what differs between the gates of the measurements.
type gateConfig struct {
	name     string // of its folder: the same name again finds its state again
	binary   string // empty: the gate of this checkout
	upstream string // base URL; empty: the lab's registry
	tagTTL   time.Duration
	env      []string
	policies []map[string]any // before the one that asks for the key
}

// gate starts a gate with its log going to a file, and waits until it answers.
func (l *lab) gate(ctx context.Context, c gateConfig) (p *process, took time.Duration, err error) {
	dir := filepath.Join(l.dir, c.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, 0, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, 0, err
	}
	if c.upstream == "" {
		c.upstream = l.registry.base
	}
	policies := append(c.policies, map[string]any{
		"name": "bench", "images": []string{host + "/**"},
		"authorities": []any{map[string]any{"name": "bench", "key": l.keyFile}},
	})
	text, err := yaml.Marshal(map[string]any{
		"listen": addr, "admin": map[string]any{"listen": admin}, "drain": "1s",
		"upstreams":       []any{map[string]any{"host": host, "url": c.upstream}},
		"defaultUpstream": host, "policies": policies,
		"manifests": map[string]any{"tagTTL": c.tagTTL.String()},
		"state":     map[string]any{"path": filepath.Join(dir, "state")},
		"limits":    map[string]any{"clientMisses": 1_000_000}, // all of it comes from one address
	})
	if err != nil {
		return nil, 0, err
	}
	file := filepath.Join(dir, "pullgate.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, 0, err
	}
	logFile := filepath.Join(dir, "log")
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	binary := cmp.Or(c.binary, l.gateFile)
	cmd := exec.Command(binary, "serve", "--config", file)
	cmd.Stderr = log
	cmd.Env = append(append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1"), c.env...)
	began := time.Now()
	if p, err = l.start(cmd, addr, logFile); err != nil {
		return nil, 0, err
	}
	if err := p.wait(ctx, "/v2/"); err != nil {
		said, _ := os.ReadFile(logFile)
		return nil, 0, fmt.Errorf("%w\n%s", err, said[:min(len(said), 2000)])
	}
	return p, time.Since(began), nil
}

// wait returns when path answers with a 200.
func (p *process) wait(ctx context.Context, path string) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if status, _, err := get(ctx, http.DefaultClient, p.base+path); err == nil && status == http.StatusOK {
			return nil
		}
		select {
		case <-p.ended:
			return errors.New(filepath.Base(p.cmd.Path) + " ended before it answered")
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return errors.New(filepath.Base(p.cmd.Path) + " did not answer within 30 s")
}

// forgetLog empties the log file, which is opened for appending.
func (p *process) forgetLog() {
	if p.log != "" {
		_ = os.Truncate(p.log, 0) // only room on the disk is at stake
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// get takes a whole answer.
func get(ctx context.Context, c *http.Client, url string) (status int, body []byte, err error) {
	return ask(ctx, c, http.MethodGet, url)
}

func ask(ctx context.Context, c *http.Client, method, url string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Accept", indexType+", "+manifestType)
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// must is get that wants a 200.
func must(ctx context.Context, c *http.Client, url string) error {
	status, body, err := get(ctx, c, url)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: %d %s", url, status, body[:min(len(body), 500)])
	}
	return err
}

// memory reads one value of /proc/PID/status, in bytes.
func (p *process) memory(name string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", p.pid(), name)
}

// cpu is the processor time a process and its children have used, in seconds.
func (p *process) cpu() (float64, error) {
	pids := []string{strconv.Itoa(p.pid())}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid(), p.pid())); err == nil {
		pids = append(pids, strings.Fields(string(text))...)
	}
	total := 0.0
	for _, pid := range pids {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			return 0, err
		}
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		for _, i := range []int{11, 12} { // utime and stime, the 14th and 15th of the line
			ticks, err := strconv.ParseFloat(string(fields[i]), 64)
			if err != nil {
				return 0, err
			}
			total += ticks / 100 // USER_HZ is 100 on every architecture Go runs on
		}
	}
	return total, nil
}
