// Package upstream talks to one registry at a time: it builds requests from
// parsed parts only, gets tokens, follows redirects itself, bounds what it
// reads, and hashes what it hands on. No header of a client reaches a registry
// through it but a blob's byte range.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/pullgate/pullgate/policy"
)

// Config is what an Upstream is made of.
type Config struct {
	Host      string      // familiar host, as image names carry it
	URL       *url.URL    // nil: https://Host; its path is put before every repository
	TLS       *tls.Config // nil: the system's roots
	Auth      Auth
	UserAgent string
	Tracer    trace.TracerProvider // nil: no spans
	Meter     metric.MeterProvider // nil: no metrics
}

// maxReads bounds the answers of one registry that are held in memory at once;
// blobs being streamed are not among them.
const maxReads = 64

// Upstream is one registry. It implements verify.Registry and is safe for
// concurrent use.
type Upstream struct {
	host   string
	base   *url.URL
	agent  string
	auth   *credentials
	tokens *tokens
	direct http.RoundTripper // to the registry itself
	away   http.RoundTripper // to hosts the registry names: token realms, blob stores
	seen   *observer
	reads  chan struct{} // answers being read whole into memory
	parses chan struct{} // lists being parsed, which takes many times their bytes

	lingering chan struct{} // requests whose answer is not needed any more
	open      context.Context
	shut      context.CancelFunc
}

// New checks that the credentials can be read; it asks nothing of the network.
func New(c Config) (*Upstream, error) {
	base := c.URL
	if base == nil {
		host := c.Host
		if host == "docker.io" {
			host = "registry-1.docker.io"
		}
		base = &url.URL{Scheme: "https", Host: host}
	}
	if base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, errors.New("url must be http:// or https:// and a host")
	}
	if c.Tracer == nil {
		c.Tracer = tracenoop.NewTracerProvider()
	}
	if c.Meter == nil {
		c.Meter = metricnoop.NewMeterProvider()
	}
	auth, err := c.Auth.open(c.Host, base)
	if err != nil {
		return nil, err
	}
	seen, err := newObserver(c.Host, c.Tracer, c.Meter)
	if err != nil {
		return nil, err
	}
	u := &Upstream{
		host:      c.Host,
		base:      base,
		agent:     c.UserAgent,
		auth:      auth,
		seen:      seen,
		reads:     make(chan struct{}, maxReads),
		parses:    make(chan struct{}, runtime.GOMAXPROCS(0)),
		lingering: make(chan struct{}, maxLingering),
	}
	u.open, u.shut = context.WithCancel(context.Background())
	u.direct, u.away = transports(c.TLS, base)
	u.tokens = newTokens(u)
	return u, nil
}

// Close lets go of idle connections, and of requests nobody waits for; others
// that are under way go on.
func (u *Upstream) Close() {
	u.shut()
	for _, t := range []http.RoundTripper{u.direct, u.away} {
		if c, ok := t.(*http.Transport); ok {
			c.CloseIdleConnections()
		}
	}
}

// path is the repository as this registry calls it.
func (u *Upstream) path(repo policy.Repository) string {
	if prefix := strings.Trim(u.base.Path, "/"); prefix != "" {
		return prefix + "/" + repo.Path
	}
	return repo.Path
}

// at is the URL of one thing of repo, e.g. ("manifests", "latest").
func (u *Upstream) at(repo policy.Repository, kind, reference string) *url.URL {
	return &url.URL{
		Scheme: u.base.Scheme,
		Host:   u.base.Host,
		Path:   "/v2/" + u.path(repo) + "/" + kind + "/" + reference,
	}
}

func (u *Upstream) String() string { return fmt.Sprintf("%s (%s)", u.host, u.base.Redacted()) }
