package server

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/verify"
)

// Loaded is a configuration that holds together: policies, keys, upstreams. It
// does not change once it is loaded.
type Loaded struct {
	Config   *config.Config
	Policies *policy.Set

	upstreams    *upstream.Registries
	upstreamKeys map[string]upstreamKey // by host, or by pattern
	identities   identities
	intercepting intercepting
	via          string // by which the gate knows its own requests; empty: nothing is intercepted
	telemetry    *telemetry.SDK
	sum          [sha256.Size]byte                     // of the files it was read from
	wrap         func(verify.Registry) verify.Registry // nil: registries are asked as they are
}

// Load reads everything and returns every problem at once. environ is laid over
// the file as config.Read says; nil is for a configuration that this program has
// written itself. With problems, what Load returns is good only for knowing which
// files it looked at, or nil.
//
// What it returns is what the files held together at one moment: Load reads them
// again while they change, and refuses those that never hold still.
func Load(file string, environ []string, t *telemetry.SDK) (*Loaded, []policy.Problem) {
	l, problems, ok := settled(func() (*Loaded, []policy.Problem) { return read(file, environ, t, nil) })
	if !ok {
		at := policy.Position{File: file}
		problems = append(problems, at.Problem("its files change while they are read; try again when they hold still"))
	}
	return l, problems
}

// read reads everything once. It takes over the upstreams that are made of the
// same in before, with their connections and tokens. before may be nil.
func read(file string, environ []string, t *telemetry.SDK, before *Loaded) (*Loaded, []policy.Problem) {
	c, problems := config.Read(file, environ)
	if c == nil {
		return nil, problems
	}

	set, more := policy.Load(c.PolicyInput())
	problems = append(problems, more...)
	l := &Loaded{Config: c, Policies: set, telemetry: t}
	l.nameOwnRequests(before)
	more = l.connect(before)
	more = append(more, l.checkSignatureHosts()...)
	more = append(more, l.checkTrust()...)
	more = append(more, l.checkDatabase()...)
	more = append(more, l.identify(before)...)
	more = append(more, l.checkClientKinds()...)
	more = append(more, l.interception(before)...)
	if _, err := l.certificate(); err != nil && c.TLS.KeyFile != "" {
		more = append(more, c.Problem("tls", "%v", err))
	}
	problems = append(problems, notSaid(problems, more)...)

	return l, sorted(problems, file)
}

// sorted puts the configuration's problems in the order of its lines, before those of
// policy files, which have their order.
func sorted(problems []policy.Problem, file string) []policy.Problem {
	line := func(p policy.Problem) int {
		if p.File == file {
			return p.Line
		}
		return math.MaxInt
	}

	slices.SortStableFunc(problems, func(a, b policy.Problem) int { return cmp.Compare(line(a), line(b)) })
	return problems
}

// notSaid returns the problems in more that stand at a line of their own: at one
// that has a problem already, another mostly follows from it.
func notSaid(problems, more []policy.Problem) []policy.Problem {
	return slices.DeleteFunc(more, func(m policy.Problem) bool {
		return slices.ContainsFunc(problems, func(p policy.Problem) bool { return p.Position == m.Position })
	})
}

// Through returns l with every registry asked through wrap. Look-ups are not called
// off when a verdict needs them no more, so that wrap sees every answer.
func (l *Loaded) Through(wrap func(verify.Registry) verify.Registry) *Loaded {
	wrapped := *l
	wrapped.wrap = wrap
	return &wrapped
}

// WithClientMisses returns l with another limits.clientMisses.
func (l *Loaded) WithClientMisses(n int) *Loaded {
	changed, c := *l, *l.Config
	c.Limits.ClientMisses = n
	changed.Config = &c
	return &changed
}

// checkSignatureHosts reports policies whose signatures are kept where no
// upstream is.
func (l *Loaded) checkSignatureHosts() []policy.Problem {
	var list []policy.Problem
	for _, p := range l.Policies.Policies() {
		host := p.SignatureRepository.Host
		if _, known := l.upstreams.ImpliedPort(host); host != "" && !known {
			const missing = "%s: policy %q keeps signatures on %s, which is not among the upstreams"
			list = append(list, l.Config.Problem("", missing, p.Where, p.Name, host))
		}
	}
	return list
}

// certificate reads the listener's certificate; nil without TLS.
func (l *Loaded) certificate() (*tls.Certificate, error) {
	c := l.Config
	if c.TLS.CertFile == "" {
		return nil, nil
	}

	pair, err := tls.LoadX509KeyPair(c.Path(c.TLS.CertFile), c.Path(c.TLS.KeyFile))
	if err != nil {
		return nil, fmt.Errorf("tls: certFile %s, keyFile %s: %w", c.TLS.CertFile, c.TLS.KeyFile, err)
	}
	return &pair, nil
}

// files are all that l was read from or looked for, with empty names among them.
func (l *Loaded) files() []string {
	c := l.Config

	files := append([]string{c.File()}, l.Policies.Files()...)
	for _, pattern := range c.PolicyFiles {
		if found, err := filepath.Glob(c.Path(pattern)); err == nil {
			files = append(files, found...)
		}
	}

	for _, u := range c.Upstreams {
		files = append(files, c.Path(u.CAFile), c.Path(u.Auth.PasswordFile), c.Path(u.Auth.File))
	}
	return append(files,
		c.Path(c.TLS.CertFile), c.Path(c.TLS.KeyFile), c.Path(c.TLS.ClientCAFile),
		c.Path(c.Intercept.CACertFile), c.Path(c.Intercept.CAKeyFile),
		c.Path(c.Clients.HtpasswdFile), c.Path(c.Clients.OIDC.JWKSFile), c.Path(c.Clients.OIDC.CAFile))
}
