package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	blobBytes   = 256 << 20
	blobClients = 4
)

// bigImage pushes an image with one big layer, once.
func (l *lab) bigImage(ctx context.Context) (*image, error) {
	if l.big != nil {
		return l.big, nil
	}
	layer := make([]byte, blobBytes)
	if _, err := rand.Read(layer); err != nil {
		return nil, err
	}
	img, err := l.push.image(ctx, "acme/big", layer, 0, true)
	l.big = img
	return img, err
}

// admit pulls what stands above the layers, so that the gate knows them.
func admit(ctx context.Context, base string, img *image) error {
	return errors.Join(must(ctx, http.DefaultClient, base+"/v2/"+img.repo+"/manifests/latest"),
		must(ctx, http.DefaultClient, base+"/v2/"+img.repo+"/manifests/"+img.child.String()))
}

// side is one way to the blob.
type side struct {
	name      string
	p         *process
	mib, cost []float64 // MiB/s, CPU seconds per GiB, round by round
}

func measureBlob(ctx context.Context, l *lab) error {
	img, err := l.bigImage(ctx)
	if err != nil {
		return err
	}
	gate, _, err := l.gate(ctx, gateConfig{name: "blob"})
	if err != nil {
		return err
	}
	defer gate.stop()
	if err := admit(ctx, gate.base, img); err != nil {
		return err
	}
	reverse, err := l.self(ctx, "reverse", l.registry.base)
	if err != nil {
		return err
	}
	defer reverse.stop()
	sides := []*side{{name: "gate", p: gate}, {name: "httputil.ReverseProxy", p: reverse}}
	peer, peerErr := l.nginx(ctx)
	if peerErr == nil {
		defer peer.stop()
		sides = append(sides, &side{name: "nginx proxy_pass", p: peer})
	}
	path := "/v2/" + img.repo + "/blobs/" + img.layer.String()
	for range l.rounds {
		for _, s := range sides {
			if err := s.round(ctx, path); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, other := range sides[1:] {
		middle, spread := ratio(sides[0].mib, other.mib)
		l.table.add(
			"blob of 256 MiB, 4 clients",
			number(median(sides[0].mib))+" MiB/s",
			other.name+" "+number(median(other.mib))+" MiB/s",
			middle,
			spread,
		)
		middle, spread = ratio(sides[0].cost, other.cost)
		l.table.add(
			"CPU per GiB of blobs",
			number(median(sides[0].cost))+" s",
			other.name+" "+number(median(other.cost))+" s",
			middle,
			spread+"; the gate hashes every byte",
		)
	}
	if peerErr != nil {
		l.table.add("blob of 256 MiB, 4 clients", "", "nginx proxy_pass", "", "not measured: "+peerErr.Error())
	}
	return nil
}

// round streams the blob to all clients at once.
func (s *side) round(ctx context.Context, path string) error {
	before, err := s.p.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	failed := make([]error, blobClients)
	var all sync.WaitGroup
	for i := range failed {
		all.Go(func() { failed[i] = drain(ctx, s.p.base+path) })
	}
	all.Wait()
	took := time.Since(began).Seconds()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	after, err := s.p.cpu()
	if err != nil {
		return err
	}
	s.mib = append(s.mib, blobClients*blobBytes/(1<<20)/took)
	s.cost = append(s.cost, (after-before)/(blobClients*blobBytes)*(1<<30))
	return nil
}

// drain takes a blob in large reads and throws it away.
func drain(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	came := 0
	for buffer := make([]byte, 256<<10); ; {
		n, err := resp.Body.Read(buffer)
		came += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if came != blobBytes {
		return fmt.Errorf("GET %s: %d bytes", url, came)
	}
	return nil
}

const nginxConfig = `daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
  access_log off; sendfile on;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b;
  fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  upstream registry { server %[2]s; keepalive 32; }
  server {
    listen %[3]s;
    location / {
      proxy_pass http://registry; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering on; proxy_max_temp_file_size 0;
    }
  }
}
`

func (l *lab) nginx(ctx context.Context) (*process, error) {
	binary, err := exec.LookPath("nginx")
	if err != nil {
		return nil, errors.New("nginx is not in PATH")
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, "nginx")
	if err := os.MkdirAll(dir, 0o755); err != nil { // its workers are another user when it is started by root
		return nil, err
	}
	if err := os.Chmod(l.dir, 0o711); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, l.registry.addr, addr), 0o600); err != nil {
		return nil, err
	}
	p, err := l.start(exec.Command(binary, "-p", dir, "-c", file), addr, "")
	if err != nil {
		return nil, err
	}
	return p, p.wait(ctx, "/v2/")
}

const slowStreams = 2000

func measureMemory(ctx context.Context, l *lab) error {
	img, err := l.bigImage(ctx)
	if err != nil {
		return err
	}
	gate, _, err := l.gate(ctx, gateConfig{name: "memory"})
	if err != nil {
		return err
	}
	defer gate.stop()
	if err := admit(ctx, gate.base, img); err != nil {
		return err
	}
	before, err := gate.memory("VmRSS")
	if err != nil {
		return err
	}
	held, ended := slowly(ctx, gate.addr, "/v2/"+img.repo+"/blobs/"+img.layer.String(), max(3*time.Second, l.span))
	peak, err := gate.memory("VmHWM")
	if err != nil {
		return err
	}
	if held == 0 {
		return fmt.Errorf("no stream came: %w", ended)
	}
	notes := fmt.Sprintf(
		"%s KiB per stream; %s MiB before",
		number(float64(peak-before)/float64(held)/1024),
		number(float64(before)/(1<<20)),
	)
	if held < slowStreams {
		notes += fmt.Sprintf("; only %d streams could be opened: %v", held, ended)
	}
	l.table.add(
		fmt.Sprintf("peak memory with %s slow blob streams", number(slowStreams)),
		number(float64(peak-before)/(1<<20))+" MiB more",
		"",
		"",
		notes,
	)
	return nil
}

// slowly opens all streams, takes a little of each now and then, and reports
// how many were open at the end.
func slowly(ctx context.Context, addr, path string, span time.Duration) (held int, last error) {
	var open atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opening := make(chan struct{}, 64) // more at once overflow the listener's queue
	for range slowStreams {
		all.Go(func() {
			err := slow(ctx, addr, path, opening, &open)
			if err != nil && ctx.Err() == nil {
				mu.Lock()
				last = err
				mu.Unlock()
			}
		})
	}
	end := time.Now().Add(60 * time.Second)
	for open.Load() < slowStreams && time.Now().Before(end) && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
		mu.Lock()
		stop := last != nil
		mu.Unlock()
		if stop {
			break
		}
	}
	select {
	case <-time.After(span):
	case <-ctx.Done():
	}
	held = int(open.Load())
	cancel()
	all.Wait()
	return held, last
}

func slow(ctx context.Context, addr, path string, opening chan struct{}, open *atomic.Int64) error {
	opening <- struct{}{}
	opened := false
	defer func() {
		if !opened {
			<-opening
		}
	}()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(16 << 10) // what the kernel holds, the gate does not
	}
	if _, err := conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")); err != nil {
		return err
	}
	buffer := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return err
		}
		if !opened {
			if status := string(buffer[:min(n, 15)]); status != "HTTP/1.1 200 OK" {
				return fmt.Errorf("a stream began with %q", status)
			}
			opened = true
			<-opening
			open.Add(1)
			defer open.Add(-1)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil
		}
	}
}
