// Package proxy is the corridor a pull walks: a request is parsed once, the
// gate in package verify decides, and the answer is written once. It knows
// HTTP, names and routes; it must not know what a signature or a policy says.
// It reads no request body, answers GET and HEAD only, and passes no header of
// the client's on to an upstream but a blob's byte range, and its credentials to
// one whose configuration says so.
package proxy

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/pullgate/pullgate/policy"
)

// Config is what a Proxy is made of.
type Config struct {
	Log    *slog.Logger
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider

	// Decisions gets every decision that is recorded, on the request's own
	// goroutine: it must not wait. Nil: decisions are not recorded.
	Decisions func(Decision)
}

// ClientByAddress takes the connection's remote address for the client. It
// never fails, and believes no header.
func ClientByAddress(r *http.Request) (policy.Client, error) {
	return policy.Client{Addr: withoutPort(r.RemoteAddr)}, nil
}

// Proxy is the handler of the pull port. Safe for concurrent use.
type Proxy struct {
	observe  *observer
	canaries canaries
	streams  *streams
	router   *mux.Router
	snapshot atomic.Pointer[Snapshot]
}

// New makes a Proxy that answers under first until Swap replaces it.
func New(c Config, first *Snapshot) (*Proxy, error) {
	observe, err := newObserver(c)
	if err != nil {
		return nil, err
	}

	p := &Proxy{
		observe:  observe,
		canaries: canaries{asked: map[string]int{}},
		streams:  newStreams(),
	}
	p.snapshot.Store(first)

	// Encoded, uncleaned paths: mux would otherwise redirect // and .. and
	// read %2F as /, and gate and upstream would disagree about the name.
	p.router = mux.NewRouter().SkipClean(true).UseEncodedPath()
	p.router.Methods(http.MethodGet, http.MethodHead).HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.pull(w, r, meant{})
	})
	return p, nil
}

// Swap puts a new configuration in place; running requests keep theirs.
func (p *Proxy) Swap(s *Snapshot) { p.snapshot.Store(s) }

// ServeHTTP asks the router for the handler and calls it directly: the router's
// own ServeHTTP would copy the request twice, for variables and a route that
// this package never uses.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.serve(w, r, meant{}) }

// meant is what is known about a request before it is read. The zero value is
// nothing.
type meant struct {
	host   string         // familiar, of the upstream that the client believes it speaks to
	client *policy.Client // that has shown a name on the way
}

// ServeIntercepted answers a client that believes it speaks to the upstream host
// itself, by its familiar name. client is who has shown a name to the proxy, or nil
// where clients are known by address. Nothing that the request says leads to
// another upstream.
func (p *Proxy) ServeIntercepted(w http.ResponseWriter, r *http.Request, host string, client *policy.Client) {
	p.serve(w, r, meant{host: host, client: client})
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, m meant) {
	if r.ContentLength != 0 { // the body is never read: the server must not wait for it
		deadline := time.Now().Add(time.Second)
		_ = http.NewResponseController(w).SetReadDeadline(deadline) // not every connection has deadlines
		w.Header().Set("Connection", "close")
	}

	var match mux.RouteMatch
	if !p.router.Match(r, &match) || match.Handler == nil {
		p.push(w, r, m)
		return
	}
	p.pull(w, r, m)
}

// push refuses what is no pull. A client that is not known is told nothing, not
// even that.
func (p *Proxy) push(w http.ResponseWriter, r *http.Request, m meant) {
	s := p.snapshot.Load()
	client, err := s.identify(r, m)
	if err != nil {
		p.answer(w, r, s, request{client: client}, err)
		return
	}
	refuseWrite(w, r.Method, m.host)
}

// refuseWrite says where a push goes. A client that was intercepted cannot push to
// the registry itself unless its proxy is told to leave that out.
func refuseWrite(w http.ResponseWriter, method, intercepted string) {
	message := "push past the gate: it is for pulls alone, so push to the registry itself"
	if intercepted != "" {
		message = "push past the gate: it is for pulls alone; for a push, set NO_PROXY=" + intercepted
	}
	w.Header().Set("Allow", "GET, HEAD")
	(&httpError{
		status:  http.StatusMethodNotAllowed,
		code:    "UNSUPPORTED",
		message: message,
	}).write(w, method)
}

// Header values that all answers share. They must not be changed.
var (
	apiVersion = []string{"registry/2.0"}
	revalidate = []string{"private, no-cache"}
	nosniff    = []string{"nosniff"}
)

// pull answers one request.
func (p *Proxy) pull(w http.ResponseWriter, r *http.Request, m meant) {
	w.Header()["Docker-Distribution-Api-Version"] = apiVersion

	s := p.snapshot.Load()
	req, err := s.read(r, m)
	if err == nil && req.kind == ping {
		writePing(w, r.Method, s.challenge(r, m))
		return
	}
	if err == nil {
		var leave func()
		if leave, err = s.enter(&req, r); err == nil {
			defer leave()
		}
	}
	p.answer(w, r, s, req, err)
}

// answer serves a request, or refuses it with the error it could not be read for,
// and writes its log line.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request, s *Snapshot, req request, err error) {
	x := &exchange{
		snapshot: s,
		streams:  p.streams,
		w:        w,
		method:   r.Method,
		request:  req,
	}
	p.observe.begin(x, r)
	if err == nil {
		err = x.serve()
	} else {
		x.obs.path = r.URL.RequestURI() // all that says what was asked for
	}
	p.observe.end(x, err)

	if err != nil {
		x.refuse(err, &p.canaries)
	}
}

// read learns who asks and what for. With an error the request holds no more
// than the client, which is known before the request is parsed.
func (s *Snapshot) read(r *http.Request, m meant) (request, error) {
	client, err := s.identify(r, m)
	if err != nil {
		return request{client: client}, err
	}

	req, err := s.parse(r, m)
	if err != nil {
		return request{client: client}, err
	}
	req.client = client
	return req, nil
}

// writePing answers /v2/, with a challenge unless it is empty.
func writePing(w http.ResponseWriter, method, challenge string) {
	if challenge != "" {
		(&httpError{
			status:    http.StatusUnauthorized,
			code:      "UNAUTHORIZED",
			message:   "this gate passes your own credentials on to the registry: log in",
			challenge: challenge,
		}).write(w, method)
		return
	}

	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", "2")
	w.WriteHeader(http.StatusOK)
	writeBody(w, method, []byte("{}"))
}
