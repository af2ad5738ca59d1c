package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/sigs"
	"github.com/pullgate/pullgate/verify/trust"
)

// loaded is a configuration that holds together: policies, keys, upstreams.
type loaded struct {
	config    *config
	policies  *policy.Set
	upstreams map[string]*upstream.Upstream
	words     map[string]string // by host: what an upstream was made of
	mode      policy.Mode
	telemetry *telemetry.SDK
	sum       [sha256.Size]byte                     // of the files it was read from
	wrap      func(verify.Registry) verify.Registry // nil: registries are asked as they are
}

// load reads everything and returns every problem at once. With problems, what
// it returns is only good for knowing which files it looked at, or nil.
func load(file string, t *telemetry.SDK) (*loaded, []policy.Problem) {
	return loadOver(file, os.Environ(), t, nil)
}

// loadOver is load with another environment; nil for a configuration that this
// program has written itself, over which nobody's environment may lie. Upstreams
// that before has under the same words are taken over, with their connections
// and tokens.
func loadOver(file string, environ []string, t *telemetry.SDK, before *loaded) (*loaded, []policy.Problem) {
	c, problems := readConfig(file, environ)
	if c == nil || c.nodes == nil {
		return nil, problems
	}
	canary, err := imagename.Parse(c.Canary)
	if c.Canary == "" || err != nil { // an error has been reported by check
		canary = policy.Image{}
	}
	set, more := policy.Load(policy.Input{
		ConfigFile:        file,
		Dir:               c.dir,
		Inline:            child(c.nodes, "policies"),
		TrustRoots:        child(c.nodes, "trustRoots"),
		Files:             c.PolicyFiles,
		FilesLine:         c.line("policyFiles"),
		DefaultAction:     c.DefaultAction,
		DefaultActionLine: c.line("defaultAction"),
		Canary:            canary.Repository,
		CanaryLine:        c.line("canary"),
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
		auth, err := c.auth(u.Auth, uc)
		if err != nil {
			return nil, err
		}
		uc.Auth, uc.Tracer, uc.Meter = auth, t.Tracer, t.Meter
		return upstream.New(uc)
	})
	for _, p := range set.Policies() {
		if host := p.SignatureRepository.Host; host != "" && ups[host] == nil {
			more = append(
				more,
				c.problem(
					0,
					"%s: policy %q keeps signatures on %s, which is not among the upstreams",
					p.Where,
					p.Name,
					host,
				),
			)
		}
	}
	more = append(more, l.checkTrust()...)
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

// checkTrust reports trust roots in files that are none, and authorities that
// demand evidence which their root cannot give. Roots and keys that have to be
// fetched are taken for good until they are.
func (l *loaded) checkTrust() []policy.Problem {
	var list []policy.Problem
	given := sigs.Trust{Roots: map[string]*sigs.Root{}}
	for _, r := range l.policies.TrustRoots() {
		if r.JSON == nil {
			continue
		}
		root, err := sigs.ParseRoot(r.Name, r.JSON)
		if err != nil {
			list = append(list, r.Where.Problem("trust root %q: %v", r.Name, err))
			continue
		}
		given.Roots[r.Name] = root
	}
	for _, p := range l.policies.Policies() {
		for _, a := range p.Authorities {
			if _, err := sigs.NewAuthority(a, nil, given); err != nil {
				list = append(list, p.Where.Problem("policy %q: authority %q: %v", p.Name, a.Name, err))
			}
		}
	}
	return list
}

// unfit names the fetched roots that cannot give what some policy demands of
// them: a root may lose its log or its timestamp authority from one day to the
// next.
func (l *loaded) unfit(trusted sigs.Trust) []string {
	var names []string
	for _, r := range l.policies.TrustRoots() {
		if r.JSON != nil || trusted.Roots[r.Name] == nil {
			continue
		}
		alone := sigs.Trust{Roots: map[string]*sigs.Root{r.Name: trusted.Roots[r.Name]}, Keys: trusted.Keys}
		for _, p := range l.policies.Policies() {
			if slices.ContainsFunc(p.Authorities, func(a policy.Authority) bool {
				_, err := sigs.NewAuthority(a, nil, alone)
				return err != nil && slices.Contains(a.TrustRoots, r.Name)
			}) {
				names = append(names, r.Name)
				break
			}
		}
	}
	return names
}

func (l *loaded) limits() verify.Limits {
	c := l.config.Limits
	return verify.Limits{
		ManifestBytes:    int64(c.ManifestBytes),
		Descriptors:      c.Descriptors,
		PayloadBytes:     int64(c.PayloadBytes),
		VerdictBytes:     int64(c.VerdictBytes),
		Signatures:       c.Signatures,
		VerdictsInFlight: c.VerdictsInFlight,
		VerifyTimeout:    c.VerifyTimeout,
		ClientMisses:     c.ClientMisses,
	}
}

// gate builds the gate over what outlives it, with the roots and keys as they
// are now.
func (l *loaded) gate(e *engine) (*verify.Gate, error) {
	trusted, err := e.trust.Use(l.policies)
	if err != nil {
		return nil, err
	}
	for _, name := range l.unfit(trusted) { // could not tell, rather than no gate at all
		delete(trusted.Roots, name)
	}
	return verify.New(verify.Config{
		Policies: l.policies,
		Trust:    trusted,
		Mode:     l.mode,
		Store:    e.store,
		Cache:    e.cache,
		Limits:   l.limits(),
		Registry: func(host string) (verify.Registry, bool) {
			u, ok := l.upstreams[host]
			if ok && l.wrap != nil {
				return l.wrap(u), true
			}
			return u, ok
		},
		TTL:          l.config.Verdicts.TTL,
		DenyTTL:      l.config.Verdicts.DenyTTL,
		TagTTL:       l.config.Manifests.TagTTL,
		StaleIfError: l.config.Verdicts.StaleIfError,
		Tracer:       l.telemetry.Tracer,
		Meter:        l.telemetry.Meter,
	})
}

func (l *loaded) snapshot(gate *verify.Gate) *proxy.Snapshot {
	limits := l.limits()
	s := &proxy.Snapshot{
		Gate:      gate,
		Upstreams: l.upstreams,
		Hostnames: l.config.hostnames(),
		Listings: proxy.ListingLimits{
			Timeout: limits.VerifyTimeout,
			Bytes:   limits.ManifestBytes,
		},
	}
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

// engine is what outlives a configuration: the state, the memory, and the
// roots and keys that are fetched.
type engine struct {
	store *facts.Bolt
	cache *verify.Cache
	trust *trust.Keeper
}

func (l *loaded) engine(statePath string, keep trust.Config) (*engine, error) {
	store, err := facts.OpenBolt(statePath, int64(l.config.State.MaxBytes))
	if err != nil {
		return nil, err
	}
	cache, err := verify.NewCache(l.config.Verdicts.MaxEntries, int64(l.config.Manifests.MaxBytes))
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	keeper, err := trust.New(keep)
	if err != nil {
		cache.Close()
		return nil, errors.Join(err, store.Close())
	}
	return &engine{store: store, cache: cache, trust: keeper}, nil
}

// trustDir is where roots and keys are kept beside the state.
func (l *loaded) trustDir() string {
	return filepath.Join(l.config.path(l.config.State.Path), "trust")
}

// Close gives the state back.
func (e *engine) Close() error {
	e.cache.Close()
	return errors.Join(e.trust.Close(), e.store.Close())
}

// fillTimeout bounds how long a command waits for roots and keys.
const fillTimeout = 20 * time.Second

// alone is a whole gate for one command: `verify` and `warm` decide with the
// very code that serve runs. Roots and keys that are missing are asked for
// first; those that cannot be had leave the verdict open.
func (l *loaded) alone(ctx context.Context, statePath string, log *slog.Logger) (*verify.Gate, func() error, error) {
	e, err := l.engine(statePath, trust.Config{Dir: l.trustDir(), Frozen: true, Log: log})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	if _, err = e.trust.Use(l.policies); err == nil {
		_ = e.trust.Fill(ctx) // logged; what is missing is said with the verdict
	}
	gate, err := l.gate(e)
	if err != nil {
		return nil, nil, errors.Join(err, e.Close())
	}
	return gate, e.Close, nil
}
