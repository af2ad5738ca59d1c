package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/verify"
)

// loaded is a configuration that holds together: policies, keys, upstreams.
type loaded struct {
	config    *config
	policies  *policy.Set
	upstreams map[string]*upstream.Upstream
	words     map[string]string // by host: what an upstream was made of
	mode      policy.Mode
	telemetry *telemetry
	sum       [sha256.Size]byte                     // of the files it was read from
	wrap      func(verify.Registry) verify.Registry // nil: registries are asked as they are
}

// load reads everything and returns every problem at once. With problems, what
// it returns is only good for knowing which files it looked at, or nil.
func load(file string, t *telemetry) (*loaded, []policy.Problem) {
	return loadOver(file, os.Environ(), t, nil)
}

// loadOver is load with another environment; nil for a configuration that this
// program has written itself, over which nobody's environment may lie. Upstreams
// that before has under the same words are taken over, with their connections
// and tokens.
func loadOver(file string, environ []string, t *telemetry, before *loaded) (*loaded, []policy.Problem) {
	c, problems := readConfig(file, environ)
	if c == nil || c.nodes == nil {
		return nil, problems
	}
	canary, _, err := parseImage(c.Canary)
	if c.Canary == "" || err != nil { // an error has been reported by check
		canary = policy.Repository{}
	}
	set, more := policy.Load(policy.Input{
		ConfigFile: file, Dir: c.dir, Inline: child(c.nodes, "policies"), Files: c.PolicyFiles, FilesLine: c.line("policyFiles"),
		DefaultAction: c.DefaultAction, DefaultActionLine: c.line("defaultAction"), Canary: canary, CanaryLine: c.line("canary"),
	})
	problems = append(problems, more...)
	l := &loaded{config: c, policies: set, telemetry: t}
	if len(problems) > 0 {
		return l, problems
	}
	l.words = map[string]string{}
	ups, more := c.upstreams(func(u upstreamConfig, uc upstream.Config) (*upstream.Upstream, error) {
		words := fmt.Sprintf("%+v %x", u, fingerprint([]string{c.path(u.CAFile)}))
		l.words[uc.Host] = words
		if before != nil && before.words[uc.Host] == words {
			return before.upstreams[uc.Host], nil
		}
		auth, err := c.auth(u.Auth)
		if err != nil {
			return nil, err
		}
		uc.Auth, uc.Tracer, uc.Meter = auth, t.tracer, t.meter
		return upstream.New(uc)
	})
	for _, p := range set.Policies() {
		if host := p.SignatureRepository.Host; host != "" && ups[host] == nil {
			more = append(more, c.problem(0, "%s: policy %q keeps signatures on %s, which is not among the upstreams", p.Where, p.Name, host))
		}
	}
	if _, err := l.certificate(); err != nil {
		more = append(more, c.problem(c.line("tls"), "%v", err))
	}
	if len(more) > 0 {
		return l, more
	}
	l.upstreams = ups
	if c.Mode == "warn" {
		l.mode = policy.Warn
	}
	l.sum = fingerprint(l.files())
	return l, nil
}

func (l *loaded) limits() verify.Limits {
	c := l.config.Limits
	return verify.Limits{
		ManifestBytes: int64(c.ManifestBytes), Descriptors: c.Descriptors, PayloadBytes: int64(c.PayloadBytes), VerdictBytes: int64(c.VerdictBytes),
		Signatures: c.Signatures, VerdictsInFlight: c.VerdictsInFlight, VerifyTimeout: c.VerifyTimeout,
		ClientMisses: c.ClientMisses,
	}
}

// gate builds the gate over a store and a cache that outlive it.
func (l *loaded) gate(store *verify.Store, cache *verify.Cache) (*verify.Gate, error) {
	return verify.New(verify.Config{
		Policies: l.policies, Mode: l.mode, Store: store, Cache: cache, Limits: l.limits(),
		Registry: func(host string) (verify.Registry, bool) {
			u, ok := l.upstreams[host]
			if ok && l.wrap != nil {
				return l.wrap(u), true
			}
			return u, ok
		},
		TTL: l.config.Verdicts.TTL, DenyTTL: l.config.Verdicts.DenyTTL, TagTTL: l.config.Manifests.TagTTL,
		StaleIfError: l.config.Verdicts.StaleIfError,
		Tracer:       l.telemetry.tracer, Meter: l.telemetry.meter,
	})
}

func (l *loaded) snapshot(gate *verify.Gate) *proxy.Snapshot {
	s := &proxy.Snapshot{Gate: gate, Upstreams: l.upstreams, Hostnames: l.config.hostnames()}
	if l.config.DefaultUpstream != "" {
		s.DefaultUpstream = policy.FamiliarHost(l.config.DefaultUpstream)
	}
	return s
}

func (l *loaded) logger(w logWriter) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.config.Log.Level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if l.config.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}

type logWriter interface{ Write([]byte) (int, error) }

// engine is what outlives a configuration: the state and the memory.
type engine struct {
	store *verify.Store
	cache *verify.Cache
}

func (l *loaded) engine(statePath string) (*engine, error) {
	store, err := verify.OpenStore(statePath, int64(l.config.State.MaxBytes))
	if err != nil {
		return nil, err
	}
	cache, err := verify.NewCache(l.config.Verdicts.MaxEntries, int64(l.config.Manifests.MaxBytes))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &engine{store: store, cache: cache}, nil
}

// Close gives the state back.
func (e *engine) Close() error {
	e.cache.Close()
	return e.store.Close()
}

// alone is a whole gate for one command: `verify` and `warm` decide with the
// very code that serve runs.
func (l *loaded) alone(statePath string) (*verify.Gate, func() error, error) {
	e, err := l.engine(statePath)
	if err != nil {
		return nil, nil, err
	}
	gate, err := l.gate(e.store, e.cache)
	if err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	return gate, e.Close, nil
}
