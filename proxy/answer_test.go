package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// TestListedSize: a manifest lists a layer's digest and its size, and both are
// signed. A blob with the digest and another size is not the one it lists.
func TestListedSize(t *testing.T) {
	t.Parallel()
	layer := random(1000)
	r := newRig(t)
	honest := r.reg.PushImage("prod/app", "", layer)
	for name, size := range map[string]int{"smaller": 999, "larger": 1001} {
		t.Run(name, func(t *testing.T) {
			manifest := strings.Replace(string(honest.Manifest), `"size":1000`, fmt.Sprintf(`"size":%d`, size), 1)
			if manifest == string(honest.Manifest) {
				t.Fatal("the manifest lists no layer of 1000 bytes")
			}
			repo := "prod/" + name
			r.reg.PushBlob(repo, layer)
			r.reg.Sign(repo, r.reg.PushRaw(repo, "v1", hostile.ImageType, []byte(manifest)), r.key)
			r.get(manifests(repo, "v1")).served(t, []byte(manifest))
			path := blobs(repo, honest.Layers[0])
			r.get(path).refused(t, http.StatusBadGateway, "UNAVAILABLE")
			r.get(path, "Range", "bytes=0-9").refused(t, http.StatusBadGateway, "UNAVAILABLE")
			if g := r.head(path); g.status != http.StatusBadGateway {
				t.Errorf("HEAD: status %d, want 502", g.status)
			}
		})
	}
}

// TestInnerError: an error of the gate's own is for its log. The client gets a
// fixed sentence and a decision id to look it up by.
func TestInnerError(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"tag":    manifests("prod/app", "v1"),
		"digest": manifests("prod/app", image.Digest),
	} {
		t.Run(name, func(t *testing.T) {
			g := r.get(path)
			g.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
			if !strings.Contains(string(g.body), "the gate could not verify this image right now") {
				t.Errorf("the client reads %s", g.body)
			}
			for _, line := range r.log.lines(t) {
				logged, _ := line["error"].(string)
				if logged == "" || line["decision"] != g.header.Get("Pullgate-Decision") {
					continue
				}
				if strings.Contains(string(g.body), logged) {
					t.Errorf("the client reads what is for the log, %q: %s", logged, g.body)
				}
				return
			}
			t.Errorf("the log does not say what failed: %s", r.log)
		})
	}
}

// TestRequestBody: a body means nothing on a pull. The answer does not wait for
// it, and the connection on which it may still come is given up.
func TestRequestBody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.signed("v1")
	for name, request := range map[string]struct{ line, length, body string }{
		"of a pull": {"GET " + manifests("prod/app", "v1"), "Content-Length: 1000", ""},
		"of a push": {"PUT " + manifests("prod/app", "v1"), "Content-Length: 1000", ""},
		"chunked":   {"GET /v2/", "Transfer-Encoding: chunked", ""},
		"cut short": {"GET /v2/", "Content-Length: 1000", "half a body"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(pace(5 * time.Second))); err != nil {
				t.Fatal(err)
			}
			head := request.line + " HTTP/1.1\r\nHost: gate\r\n" + request.length + "\r\n\r\n"
			if _, err := io.WriteString(conn, head+request.body); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("no answer while the body is on its way: %v", err)
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Errorf("read the answer: %v", err)
			}
			if !resp.Close {
				t.Error("the answer does not say that the connection ends")
			}
			if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after the answer the connection goes on: %v", err)
			}
		})
	}
}

// TestMissingBlobs: a blob that the upstream does not have is a question to it
// that was asked in vain, and counts against the client's misses.
func TestMissingBlobs(t *testing.T) {
	t.Parallel()
	const misses = 5
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = misses } })
			for i := range 3 * misses {
				want := http.StatusNotFound
				if i >= misses {
					want = http.StatusTooManyRequests
				}
				if g := r.do(method, blobs("open/app", digest.FromBytes(random(8)))); g.status != want {
					t.Fatalf("miss %d: status %d, want %d", i+1, g.status, want)
				}
			}
			if n := r.reg.Count(hostile.Is(hostile.Blobs)); n != misses {
				t.Errorf("%d requests upstream, want %d", n, misses)
			}
		})
	}
}
