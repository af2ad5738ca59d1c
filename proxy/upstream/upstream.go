// Package upstream talks to one registry: it builds requests from parsed parts
// only, gets tokens, follows redirects itself, bounds what it reads, and hashes
// what it returns. No header of a client reaches a registry but a blob's byte
// range, and its credentials where they are passed through. It knows nothing of policies, signatures and verdicts.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream/credentials"
)

// Config is the configuration of an Upstream.
type Config struct {
	Host      string      // familiar host, as image names carry it
	URL       *url.URL    // nil: https://Host; its path is put before every repository, from behind a segment v2 on
	TLS       *tls.Config // nil: the system's roots
	Auth      Auth
	UserAgent string

	// Via is sent with every request to the registry and to proxies on the way, so
	// that one that comes back here is known (RFC 9110, section 7.6.3). Empty:
	// nothing is sent.
	Via string

	// Stranger says that a client chose the host, by a name that a wildcard stands
	// for: it is asked only where it lies outside, as its redirects and realms are.
	Stranger bool
	// Label is the upstream's name in metrics, whose number must be bounded; empty:
	// Host.
	Label string

	Redirect    bool // OpenBlob answers with the URL that the registry redirects to
	Concurrency int  // requests to the registry at once; 0: DefaultConcurrency

	// Stores are hosts, or host:port, that redirects may lead to although they lie
	// further inside than the registry.
	Stores []string

	Tracer trace.TracerProvider // nil: no spans
	Meter  metric.MeterProvider // nil: no metrics

	Now func() time.Time // of tokens, and of the pauses that a registry asks for; nil: time.Now
}

// Auth is what the registry is shown, and which other hosts may see it.
type Auth struct {
	Source credentials.Source // nil: credentials.Anonymous

	// Realms are hosts, or host:port, whose token realm may see the credentials
	// although it is outside the registry's own registrable domain.
	Realms []string
}

// Address is where the registry's requests go: URL, or https:// and the host,
// which for Docker Hub is that of its API.
func (c Config) Address() (*url.URL, error) {
	address := c.URL
	if address == nil {
		host := c.Host
		if host == "docker.io" {
			host = "registry-1.docker.io"
		}

		address = &url.URL{Scheme: "https", Host: host}
	}

	if address.Host == "" || address.Scheme != "https" && address.Scheme != "http" {
		return nil, errors.New("url must be http:// or https:// and a host")
	}

	return address, nil
}

// Prefix is what is put before every repository, without slashes at its ends.
func (c Config) Prefix() string {
	if c.URL == nil {
		return ""
	}

	_, prefix := root(c.URL.Path)
	return prefix
}

// maxReads bounds the answers of one registry that are held in memory at once.
// Blobs that stream are not among them.
const maxReads = 64

// Upstream is one registry. It implements verify.Registry and is safe for
// concurrent use.
type Upstream struct {
	host   string
	base   *url.URL
	api    string // path at which the API begins, ending in /v2/
	prefix string // put before every repository, without slashes at its ends
	agent  string
	via    string
	auth   credentials.Source
	realms realms
	tokens *tokens
	pauses pauses
	now    func() time.Time
	ways   *ways
	direct http.RoundTripper // to the registry itself
	away   http.RoundTripper // to hosts that the registry names: token realms, blob stores
	line   *line
	again  *rate.Limiter // requests that are repeated
	obs    *observer
	reads  chan struct{} // answers that are being read into memory
	parses chan struct{} // answers that are being parsed, which takes many times their bytes

	unusable error // why it cannot be asked at all; nil: it can

	redirect bool        // hand redirects of blobs on
	answered atomic.Bool // the registry has served something
	counted  atomic.Bool // the registry counts how many manifests are fetched

	lingering chan struct{} // requests whose answer is not needed any more
	lingerFor time.Duration // how long each of them runs on
	open      context.Context
	shut      context.CancelFunc
}

// New makes an Upstream. It sends no request: a registry that is down is no
// reason to refuse a configuration.
func New(c Config) (*Upstream, error) {
	base, err := c.Address()
	if err != nil {
		return nil, err
	}

	if c.Auth.Source == nil {
		c.Auth.Source = credentials.Anonymous{}
	}
	if c.Tracer == nil {
		c.Tracer = tracenoop.NewTracerProvider()
	}
	if c.Meter == nil {
		c.Meter = metricnoop.NewMeterProvider()
	}

	if c.Now == nil {
		c.Now = time.Now
	}

	if c.Label == "" {
		c.Label = c.Host
	}
	if c.Concurrency == 0 {
		c.Concurrency = DefaultConcurrency
	}

	obs, err := newObserver(c.Label, c.Tracer, c.Meter)
	if err != nil {
		return nil, err
	}

	u := &Upstream{
		host:      c.Host,
		base:      base,
		agent:     c.UserAgent,
		via:       c.Via,
		auth:      c.Auth.Source,
		realms:    realms{base: base, listed: c.Auth.Realms},
		obs:       obs,
		now:       c.Now,
		reads:     make(chan struct{}, maxReads),
		parses:    make(chan struct{}, runtime.GOMAXPROCS(0)),
		lingering: make(chan struct{}, maxLingering),
		redirect:  c.Redirect,
		line:      newLine(c.Concurrency),
		again:     rate.NewLimiter(retriesPerSecond, retriesAtOnce),
		lingerFor: lingerFor,
	}
	u.open, u.shut = context.WithCancel(context.Background())
	u.ways = newWays(waysConfig{
		tls:      c.TLS,
		via:      c.Via,
		base:     base,
		idle:     c.Concurrency,
		stranger: c.Stranger,
		named:    slices.Concat(c.Auth.Realms, c.Stores),
	})
	u.direct, u.away = u.ways.direct, u.ways.away
	u.counted.Store(base.Host == "registry-1.docker.io")
	u.api, u.prefix = root(base.Path)
	u.tokens = newTokens(u)

	return u, nil
}

// ImpliedPort is the port that the registry's name means when none is written:
// that of its URL's scheme.
func (u *Upstream) ImpliedPort() string { return policy.ImpliedPort(u.base.Scheme) }

// Close closes idle connections and ends the requests whose answer is not needed
// any more. Other requests that are under way go on.
func (u *Upstream) Close() {
	u.shut()
	for _, t := range []http.RoundTripper{u.direct, u.away} {
		if c, ok := t.(*http.Transport); ok {
			c.CloseIdleConnections()
		}
	}
}

// root parts the path of a registry's URL at its segment v2, where there is one:
// that is where the API begins (…/api/docker/repo/v2/). Without one the API begins
// at the host, and the whole path is put before every repository.
func root(path string) (api, prefix string) {
	path = strings.Trim(path, "/")
	segments := strings.Split(path, "/")
	if i := slices.Index(segments, "v2"); i >= 0 {
		return "/" + strings.Join(segments[:i+1], "/") + "/", strings.Join(segments[i+1:], "/")
	}

	return "/v2/", path
}

// front is the URL of the API itself.
func (u *Upstream) front() *url.URL {
	return &url.URL{Scheme: u.base.Scheme, Host: u.base.Host, Path: u.api}
}

// path is the repository's path on this registry.
func (u *Upstream) path(repo policy.Repository) string {
	if u.prefix != "" {
		return u.prefix + "/" + repo.Path
	}

	return repo.Path
}

// at is the URL of a part of repo, such as kind "manifests" with reference
// "latest".
func (u *Upstream) at(repo policy.Repository, kind, reference string) *url.URL {
	at := u.front()
	at.Path += u.path(repo) + "/" + kind + "/" + reference
	return at
}

// String names the upstream without the password that its URL may hold.
func (u *Upstream) String() string { return fmt.Sprintf("%s (%s)", u.host, u.base.Redacted()) }
