package upstream

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// failing answers the first times with what it says, then as it should.
func failing(times int64, how http.HandlerFunc) (http.HandlerFunc, *atomic.Int64) {
	asked := &atomic.Int64{}
	return func(w http.ResponseWriter, q *http.Request) {
		if asked.Add(1) <= times {
			how(w, q)
			return
		}
		sendManifest(w, someBytes)
	}, asked
}

func TestRetries(t *testing.T) {
	t.Parallel()
	hangUp := func(w http.ResponseWriter, _ *http.Request) { cut(w, "") }
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}
	later := map[string]string{"Retry-After": "60"}
	tests := map[string]struct {
		how   http.HandlerFunc
		times int64
		asked int64
		ok    bool
	}{
		"hang-up":             {hangUp, 2, 3, true},
		"reset":               {reset, 2, 3, true},
		"502":                 {always(502, nil, ""), 2, 3, true},
		"503":                 {always(503, nil, ""), 2, 3, true},
		"504":                 {always(504, nil, ""), 2, 3, true},
		"408":                 {always(408, nil, ""), 1, 2, true},
		"503 for good":        {always(503, nil, ""), 100, 3, false},
		"503 for a minute":    {always(503, later, ""), 1, 1, false},
		"500":                 {always(500, nil, ""), 1, 1, false},
		"501":                 {always(501, nil, ""), 1, 1, false},
		"404":                 {always(404, nil, ""), 1, 1, false},
		"401":                 {always(401, nil, ""), 1, 2, false}, // asks /v2/ for a challenge
		"429":                 {always(429, nil, ""), 1, 1, false},
		"400":                 {always(400, nil, ""), 1, 1, false},
		"a body that is cut":  {func(w http.ResponseWriter, _ *http.Request) { cut(w, "half") }, 1, 1, false},
		"nothing at the port": {nil, 0, 0, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler, asked := failing(tt.times, tt.how)
			s := serve(t, "http", "", handler)
			u := openBare(t, s.url, Auth{})
			if tt.how == nil {
				u = openBare(t, "http://"+closedPort(t), Auth{})
			}
			err := manifestOf(t, u)
			if (err == nil) != tt.ok || asked.Load() != tt.asked {
				t.Errorf("%v after %d requests; want %d", err, asked.Load(), tt.asked)
			}
		})
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A token is asked for again as everything else, but where a secret is posted.
func TestTokenRetry(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		switch {
		case q.URL.Path == "/token" && asked.Add(1) < 3:
			w.WriteHeader(http.StatusBadGateway)
		case q.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"t"}`)
		case q.Header.Get("Authorization") == "":
			wants(w, bearer("http://"+q.Host+"/token"))
		default:
			sendManifest(w, someBytes)
		}
	})
	mustManifest(t, openBare(t, s.url, Auth{}))
	if n := asked.Load(); n != 3 {
		t.Errorf("%d questions for a token", n)
	}
}

// A HEAD is not repeated: what follows it is a GET.
func TestHeadIsNotRepeated(t *testing.T) {
	t.Parallel()
	handler, asked := failing(100, always(503, nil, ""))
	u := openBare(t, serve(t, "http", "", handler).url, Auth{})
	if _, ok, err := u.Resolve(t.Context(), repo, "latest"); ok || asked.Load() != 1 {
		t.Errorf("%v, %v after %d requests", ok, err, asked.Load())
	}
}

// A deadline is not spent on repetitions.
func TestRetryDeadline(t *testing.T) {
	t.Parallel()
	handler, asked := failing(100, always(503, nil, ""))
	u := openBare(t, serve(t, "http", "", handler).url, Auth{})
	ctx, cancel := context.WithTimeout(t.Context(), firstRetry/2)
	defer cancel()
	if _, err := u.Manifest(ctx, repo.Tagged("latest"), plenty); err == nil || asked.Load() > 1 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}

// A registry that fails altogether is not asked three times as much.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	handler, asked := failing(1<<40, always(503, nil, ""))
	u := openBare(t, serve(t, "http", "", handler).url, Auth{})
	const questions = 300
	done := make(chan struct{})
	began := time.Now()
	for range questions {
		go func() { _ = manifestOf(t, u); done <- struct{}{} }()
	}
	for range questions {
		<-done
	}
	most := int64(questions+retriesAtOnce) + int64(time.Since(began)/time.Second+1)*retriesPerSecond
	if asked.Load() > most {
		t.Errorf("%d requests for %d questions; want at most %d", asked.Load(), questions, most)
	}
}

// Repetitions do not come in step.
func TestJitter(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jittered(time.Second)
		if d < time.Second/2 || d > 3*time.Second/2 {
			t.Fatalf("%v", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different waits of 100", len(seen))
	}
}

// A connection that the registry closed meanwhile costs no error.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			s := newCounted(
				t,
				scheme == "https",
				func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, someBytes) },
			)
			u := s.upstream(t)
			for range 5 {
				mustManifest(t, u)
				s.server.CloseClientConnections()
			}
		})
	}
}

// counted is a server that counts the connections to it.
type counted struct {
	server *httptest.Server
	opened atomic.Int64
	proto  atomic.Int64 // the highest major version that was spoken
}

func newCounted(t *testing.T, tls bool, h http.HandlerFunc) *counted {
	t.Helper()
	c := &counted{}
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c.proto.Store(max(c.proto.Load(), int64(q.ProtoMajor)))
		h(w, q)
	}))
	c.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.opened.Add(1)
		}
	}
	c.server.EnableHTTP2 = true
	if tls {
		c.server.TLS = roots()
		c.server.TLS.Certificates = append(c.server.TLS.Certificates, certificate(t, "registry.example"))
		c.server.StartTLS()
	} else {
		c.server.Start()
	}
	t.Cleanup(c.server.Close)
	return c
}

func (c *counted) upstream(t *testing.T) *Upstream {
	t.Helper()
	return openBare(t, c.server.URL, Auth{})
}

// Many requests need one connection: of HTTP/2 at once, of HTTP/1.1 one after the
// other. What a cold pull asks for is read to its end, whatever the answer.
func TestConnectionReuse(t *testing.T) {
	t.Parallel()
	handler := func(w http.ResponseWriter, q *http.Request) {
		switch n, _ := strconv.Atoi(q.URL.Query().Get("n")); {
		case n%3 == 1:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`)
		default:
			sendManifest(w, someBytes)
		}
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		s := newCounted(t, false, handler)
		u := s.upstream(t)
		for range 20 {
			mustManifest(t, u)
			_, _, _ = u.Tags(t.Context(), repo, "n=1", plenty)
			_, _, _ = u.Resolve(t.Context(), repo, "latest")
		}
		if n := s.opened.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		s := newCounted(t, true, handler)
		u := s.upstream(t)
		mustManifest(t, u)
		done := make(chan struct{})
		for range 50 {
			go func() { _ = manifestOf(t, u); done <- struct{}{} }()
		}
		for range 50 {
			<-done
		}
		if n := s.opened.Load(); n != 1 || s.proto.Load() != 2 {
			t.Errorf("%d connections, HTTP/%d", n, s.proto.Load())
		}
	})
}

// A connection of HTTP/2 that swallows what is sent is given up.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	s := newCounted(t, true, func(w http.ResponseWriter, _ *http.Request) { sendManifest(w, someBytes) })
	base, err := url.Parse(s.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u := openBare(t, s.server.URL, Auth{})
	tr := u.direct.(*http.Transport)
	tr.HTTP2 = &http.HTTP2Config{SendPingTimeout: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond}
	var swallow atomic.Bool
	tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		swallow.Store(false)
		conn, err := (&net.Dialer{}).DialContext(ctx, network, base.Host)
		return &silent{Conn: conn, on: &swallow}, err
	}
	mustManifest(t, u)

	swallow.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), headerTimeout-time.Second)
	defer cancel()
	for { // the request that finds out fails, or is repeated
		if _, err := u.Manifest(ctx, repo.Tagged("latest"), plenty); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("it is not given up")
		}
	}
	if openBare(t, s.server.URL, Auth{}).direct.(*http.Transport).HTTP2.SendPingTimeout == 0 {
		t.Error("connections are not asked whether they live")
	}
}

// silent is a connection that loses what is written while on.
type silent struct {
	net.Conn
	on *atomic.Bool
}

func (s *silent) Write(b []byte) (int, error) {
	if s.on.Load() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}
