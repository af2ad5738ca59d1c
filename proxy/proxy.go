// Package proxy is the corridor a pull walks: a request is parsed once, the
// gate in package verify decides, and the answer is written once. It reads no
// request body, answers GET and HEAD only, and passes no header of the
// client's on to an upstream but a blob's byte range.
package proxy

import (
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/verify"
)

// Snapshot is one configuration as requests see it; a request uses one to its
// end. It is not changed after it was handed over.
type Snapshot struct {
	Gate            *verify.Gate
	Upstreams       map[string]*upstream.Upstream // by familiar host
	Hostnames       map[string]string             // Host header, lower case → familiar host
	DefaultUpstream string                        // familiar host; empty: a bare name is unknown
}

// Config is what a Proxy is made of.
type Config struct {
	Log    *slog.Logger
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider

	// Decisions gets every decision that is recorded, on the request's own
	// goroutine: it must not wait. Nil: none are wanted.
	Decisions func(Decision)
}

// Proxy is the handler of the pull port. Safe for concurrent use.
type Proxy struct {
	log      *slog.Logger
	observe  *observer
	canaries canaries
	router   *mux.Router
	snapshot atomic.Pointer[Snapshot]
}

// New makes a Proxy that answers under first until Swap replaces it.
func New(c Config, first *Snapshot) (*Proxy, error) {
	observe, err := newObserver(c)
	if err != nil {
		return nil, err
	}
	p := &Proxy{log: c.Log, observe: observe, canaries: canaries{asked: map[string]int{}}}
	p.snapshot.Store(first)
	// Encoded, uncleaned paths: mux would otherwise redirect // and .. and
	// read %2F as /, and gate and upstream would disagree about the name.
	p.router = mux.NewRouter().SkipClean(true).UseEncodedPath()
	p.router.Methods(http.MethodGet, http.MethodHead).HandlerFunc(p.pull)
	return p, nil
}

// Swap puts a new configuration in place; running requests keep theirs.
func (p *Proxy) Swap(s *Snapshot) { p.snapshot.Store(s) }

// ServeHTTP asks the router which handler it is and calls that itself: the
// router's own ServeHTTP would copy the request twice for variables and a route
// that nobody reads.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // a body that nobody reads: it is not waited for
		_ = http.NewResponseController(
			w,
		).SetReadDeadline(
			time.Now().Add(time.Second),
		) // not every connection has deadlines
		w.Header().Set("Connection", "close")
	}
	var match mux.RouteMatch
	if !p.router.Match(r, &match) || match.Handler == nil {
		p.refuseWrite(w, r)
		return
	}
	match.Handler.ServeHTTP(w, r)
}

func (p *Proxy) refuseWrite(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "GET, HEAD")
	(&answer{
		status:  http.StatusMethodNotAllowed,
		code:    "UNSUPPORTED",
		message: "this gate is for pulls: push to the registry itself",
	}).write(w, r)
}

// Header values that every answer shares; nobody changes them.
var (
	apiVersion = []string{"registry/2.0"}
	revalidate = []string{"private, no-cache"}
	nosniff    = []string{"nosniff"}
)

// pull is one request from its first byte to its log line.
func (p *Proxy) pull(w http.ResponseWriter, r *http.Request) {
	s := p.snapshot.Load()
	w.Header()["Docker-Distribution-Api-Version"] = apiVersion
	req, err := s.parse(r)
	if err == nil && req.kind == ping {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", "2")
		w.WriteHeader(http.StatusOK)
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte("{}")) // a client that left needs no answer
		}
		return
	}
	seen := p.observe.begin(r, req)
	if err == nil {
		err = p.serve(s, w, r, req, seen)
	}
	p.observe.end(seen, err)
	if err == nil {
		return
	}
	var broken *cutOff
	if errors.As(err, &broken) || seen.ctx.Err() != nil {
		// Bytes are out already, or nobody listens any more: returning would end
		// the answer cleanly, with a 200 that nobody has decided.
		panic(http.ErrAbortHandler)
	}
	a := asAnswer(err)
	if seen.judged {
		p.canaries.count(w, req.client, seen.result)
	}
	if seen.judged || a.status >= http.StatusInternalServerError {
		seen.setDecision(w)
	}
	a.write(w, r)
}

func (p *Proxy) serve(s *Snapshot, w http.ResponseWriter, r *http.Request, req request, seen *observation) error {
	switch req.kind {
	case manifestKind:
		return serveManifest(s, w, r, req, seen)
	case blobKind:
		return serveBlob(s, w, r, req, seen)
	case tagsKind:
		return serveTags(s, w, r, req, seen)
	case referrersKind:
		return serveReferrers(s, w, r, req, seen)
	}
	return notFound("no such route")
}
