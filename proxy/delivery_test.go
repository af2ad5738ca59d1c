package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// delivery answers with a body in some way of its own.
type delivery func(contentType string, body []byte) http.HandlerFunc

// deliveries send bodies that are not what their headers say.
var deliveries = map[string]delivery{
	"endless": func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, err := w.Write(body)
			for more := bytes.Repeat([]byte(" "), 32<<10); err == nil && req.Context().Err() == nil; {
				_, err = w.Write(more)
			}
		}
	},
	"a byte now and then": func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", contentType)
			for i := 0; req.Context().Err() == nil; i++ {
				if _, err := w.Write(body[i%len(body) : i%len(body)+1]); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush()
				select {
				case <-time.After(10 * time.Millisecond):
				case <-req.Context().Done():
				}
			}
		}
	},
	"a terabyte promised": lyingLength(1 << 40),
	"more than int64":     rawLength("99999999999999999999"),
	"negative length":     rawLength("-1"),
	"one byte promised":   rawLength("1"),
	"two lengths":         rawLength("5\r\nContent-Length: 7"),
}

// lyingLength promises n bytes, sends the body and hangs up.
func lyingLength(n int64) delivery {
	return func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
			_, _ = w.Write(body)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

// rawLength writes a Content-Length that net/http would not.
func rawLength(length string) delivery {
	return func(contentType string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, buffer, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(buffer, "HTTP/1.1 200 OK\r\nConnection: close\r\n")
			fmt.Fprintf(buffer, "Content-Type: %s\r\nContent-Length: %s\r\n\r\n%s", contentType, length, body)
			_ = buffer.Flush()
		}
	}
}

// Whatever a body's length is said to be, and however long it goes on: a place
// that answers so counts as broken or empty, never as a reason to wait on.
func TestLyingLength(t *testing.T) {
	timeout := pace(400 * time.Millisecond)
	for _, place := range sorted(places) {
		t.Run(place, func(t *testing.T) {
			r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
			defer end()
			l := places[place]
			var all sync.WaitGroup
			for _, name := range sorted(deliveries) {
				unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
				for _, image := range []hostile.Image{unsigned, signed} {
					document := around(place, image.Digest, `{"n":"`+name+`"}`)
					if place == "payload" {
						document = hostile.Payload("prod/app", image.Digest, "n", name)
					}
					l.put(r, f, image.Digest, document, deliveries[name])
				}
				l.sign(r, signed.Digest)
				all.Go(func() {
					start := time.Now()
					g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", unsigned.Digest))
					if took := time.Since(start); err != nil || took > timeout+pace(10*time.Second) {
						t.Errorf("%s: %v after %s", name, err, took)
					}
					if g.status != 403 && g.status != 503 {
						t.Errorf("%s: %d %.300s", name, g.status, g.body)
					}

					g, err = r.try(t.Context(), http.MethodGet, manifests("prod/app", signed.Digest))
					for range 10 { // the time for a verdict is short, and a machine may be busy
						if err != nil || g.status != http.StatusServiceUnavailable {
							break
						}
						g, err = r.try(t.Context(), http.MethodGet, manifests("prod/app", signed.Digest))
					}
					if err != nil || g.status != 200 {
						t.Errorf("%s: the good signature elsewhere does not count: %d %v %.300s",
							name, g.status, err, g.body)
					}
				})
			}
			all.Wait()
		})
	}
	t.Run("manifest", func(t *testing.T) {
		r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
		defer end()
		for i, name := range sorted(deliveries) {
			tag := fmt.Sprint("v", i)
			f.on("manifests/"+tag, deliveries[name](hostile.ImageType, imageWith(1, "")))
			g := quiet{timeout, 64 << 20}.get(t, r, manifests("prod/app", tag))
			if g.status < 400 {
				t.Errorf("%s: %d %.300s", name, g.status, g.body)
			}
		}
	})
	t.Run("listing", func(t *testing.T) {
		r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
		defer end()
		d := digest.FromString("x").String()
		for _, name := range sorted(deliveries) {
			f.on("referrers/"+d, deliveries[name](hostile.IndexType, indexWith(1, "")))
			f.on("tags/list", deliveries[name]("application/json", []byte(`{"name":"prod/app","tags":["a"]}`)))
			for _, path := range []string{"referrers/" + d, "tags/list"} {
				g := quiet{timeout, 64 << 20}.get(t, r, "/v2/reg.example/prod/app/"+path)
				if g.status < 400 {
					t.Errorf("%s, %s: %d %.300s", path, name, g.status, g.body)
				}
			}
		}
	})
}

// The same for the token a registry sends the gate for, and for tokens that are
// no tokens.
func TestTokenAnswerBounds(t *testing.T) {
	timeout := pace(400 * time.Millisecond)
	r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = timeout } })
	defer end()
	answers := map[string]http.HandlerFunc{
		"a token of 8 MiB": says("application/json", []byte(`{"token":"`+strings.Repeat("x", 8<<20)+`"}`)),
		"stalls":           func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() },
	}
	for name, deliver := range deliveries {
		answers[name] = deliver("application/json", []byte(`{"token":"x"}`))
	}
	for name, bomb := range bombs(4 << 20) {
		answers[name] = says("application/json", []byte(`{"x":`+bomb+`,"token":"x"}`))
	}
	var mu sync.Mutex
	var answer http.HandlerFunc
	realm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		a := answer
		mu.Unlock()
		a(w, req)
	}))
	t.Cleanup(realm.Close)
	t.Cleanup(realm.CloseClientConnections)
	for i, name := range sorted(answers) {
		mu.Lock()
		answer = answers[name]
		mu.Unlock()
		repo := fmt.Sprint("prod/token", i) // tokens are a repository's
		f.on("manifests/v1", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="`+realm.URL+`",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		})
		g := quiet{timeout, 16 << 20}.get(t, r, manifests(repo, "v1"))
		if g.status < 400 {
			t.Errorf("%s: %d", name, g.status)
		}
	}
	realm.CloseClientConnections()
}

// The registry's own HEAD is not always its GET: what a tag stands for is then
// asked by GET, also once it is known.
func TestMovedTagWithoutHead(t *testing.T) {
	t.Parallel()
	head := func(q hostile.Request) bool { return q.Method == http.MethodHead && q.Reference == "v1" }
	for _, trick := range []hostile.Trick{
		hostile.Status(301),
		hostile.Status(307, "Location", "/elsewhere?signature=for-GET"),
		hostile.Status(400),
		hostile.Status(401),
		hostile.Status(403),
		hostile.Status(404),
		hostile.Status(405),
		hostile.Status(500),
		hostile.Status(501),
		hostile.Status(502),
		hostile.Status(503),
		hostile.NoDigest,
		hostile.HangUp,
	} {
		t.Run(trick.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			first := r.reg.PushImage("open/app", "v1")
			r.reg.On(trick.At(head))
			r.get(manifests("open/app", "v1")).served(t, first.Manifest)
			r.get(manifests("open/app", "v1")).served(t, first.Manifest)

			second := r.reg.PushImage("open/app", "v1", random(100))
			r.get(manifests("open/app", "v1")).served(t, second.Manifest)
			if g := r.head(
				manifests("open/app", "v1"),
			); g.header.Get(
				"Docker-Content-Digest",
			) != second.Digest.String() {
				t.Errorf("HEAD: %d %v", g.status, g.header)
			}
		})
	}
}

// Where the registry does not say how large a blob is, the manifest does.
func TestBlobLength(t *testing.T) {
	t.Parallel()
	layer := random(5000)
	for name, c := range map[string]struct {
		at   string // method that the trick is played for
		head int
	}{
		"HEAD without a length": {http.MethodHead, 200},
		"HEAD with none":        {http.MethodHead, 204},
		"HEAD refused":          {http.MethodHead, 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, image := admitted(t, layer)
			r.reg.On(hostile.Change(hostile.Blobs, func(q hostile.Request, a *hostile.Answer) {
				if q.Method == c.at {
					a.Status, a.Body = c.head, nil
				}
			}))
			g := r.head(blobs("prod/app", image.Layers[0]))
			if g.status != 200 || g.length != int64(len(layer)) {
				t.Errorf("%d, length %d; want %d", g.status, g.length, len(layer))
			}
			r.get(blobs("prod/app", image.Layers[0])).served(t, layer)
		})
	}
	t.Run("GET without a length", func(t *testing.T) {
		t.Parallel()
		r, image := admitted(t, layer)
		r.reg.On(hostile.Chunked)
		g := r.get(blobs("prod/app", image.Layers[0]))
		g.served(t, layer)
		if g.length != int64(len(layer)) {
			t.Errorf("length %d; want %d", g.length, len(layer))
		}
	})
}
