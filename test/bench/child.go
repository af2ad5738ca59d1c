package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// child is this program as a subprocess, so that what is measured shares no
// scheduler and no garbage collector with what measures it. It ends when its
// standard input does, which happens at the latest when its parent ends.
func child(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("child needs a role")
	}
	switch args[0] {
	case "load":
		return loadRole(args[1:])
	case "registry":
		return serveRole(newContent())
	case "bare":
		body, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		return serveRole(bare{body: body, digest: args[2]})
	case "reverse":
		target, err := url.Parse(args[1])
		if err != nil {
			return err
		}
		p := httputil.NewSingleHostReverseProxy(target)
		p.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
		return serveRole(p)
	}
	return fmt.Errorf("unknown role %q", args[0])
}

// serveRole answers on any port, which it prints first.
func serveRole(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr().String())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
		_ = l.Close()
	}()
	_ = http.Serve(l, h) // ends with Close
	return nil
}

// bare is the least a Go program can do to answer with a manifest.
type bare struct {
	body   []byte
	digest string
}

func (b bare) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", indexType)
	w.Header().Set("Docker-Content-Digest", b.digest)
	_, _ = w.Write(b.body)
}

// content is a registry: what was PUT under a path is served under it, with
// its media type and digest. Whatever else is asked for is a 404; the
// referrers API answers with an empty index, as a registry that has it does.
type content struct {
	mu    sync.RWMutex
	files map[string]file
	heads atomic.Int64
}

type file struct {
	mediaType, digest string
	body              []byte
}

func newContent() *content { return &content{files: map[string]file{}} }

const emptyIndex = `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]}`

func (c *content) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		c.files[r.URL.Path] = file{r.Header.Get("Content-Type"), r.Header.Get("Docker-Content-Digest"), body}
		c.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
		return
	}
	switch {
	case r.URL.Path == "/heads":
		fmt.Fprint(w, c.heads.Load())
		return
	case r.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
		return
	case strings.Contains(r.URL.Path, "/referrers/"):
		w.Header().Set("Content-Type", indexType)
		_, _ = io.WriteString(w, emptyIndex)
		return
	}
	if r.Method == http.MethodHead {
		c.heads.Add(1)
	}
	c.mu.RLock()
	f, ok := c.files[r.URL.Path]
	c.mu.RUnlock()
	if !ok {
		http.Error(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", f.mediaType)
	w.Header().Set("Docker-Content-Digest", f.digest)
	w.Header().Set("Content-Length", strconv.Itoa(len(f.body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = io.Copy(w, bytes.NewReader(f.body))
}

// loadRole asks for one URL over keep-alive connections and prints how many
// answers of status 200 came per second, and how many others.
func loadRole(args []string) error {
	target, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	span, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	var good, bad atomic.Int64
	end := time.Now().Add(span)
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			if err := hammer(target, end, &good, &bad); err != nil {
				bad.Add(1)
			}
		})
	}
	all.Wait()
	fmt.Printf("%.2f %d\n", float64(good.Load())/span.Seconds(), bad.Load())
	return nil
}

func hammer(target *url.URL, end time.Time, good, bad *atomic.Int64) error {
	conn, err := net.Dial("tcp", target.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := []byte("GET " + target.RequestURI() + " HTTP/1.1\r\nHost: " + target.Host + "\r\n\r\n")
	r := bufio.NewReaderSize(conn, 16<<10)
	for time.Now().Before(end) {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		length := -1
		for n := 0; ; n++ {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if len(line) <= 2 {
				break
			}
			if n == 0 && !bytes.Contains(line, []byte(" 200 ")) {
				bad.Add(1)
			} else if n == 0 {
				good.Add(1)
			}
			if name, value, ok := bytes.Cut(
				line,
				[]byte(": "),
			); ok &&
				strings.EqualFold(string(name), "content-length") {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
					return err
				}
			}
		}
		if length < 0 {
			return fmt.Errorf("an answer without Content-Length")
		}
		if _, err := r.Discard(length); err != nil {
			return err
		}
	}
	return nil
}
