package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/trust"
)

// fillTimeout bounds how long a command waits for roots and keys.
const fillTimeout = 20 * time.Second

// engine is what outlives a configuration: the state, the memory, and the roots
// and keys that are fetched.
type engine struct {
	store *facts.Bolt
	cache *verify.Cache
	trust *trust.Keeper
}

func (l *Loaded) newEngine(statePath string, keep trust.Config) (*engine, error) {
	store, err := facts.OpenBolt(statePath, int64(l.Config.State.MaxBytes))
	if err != nil {
		return nil, err
	}

	cache, err := verify.NewCache(l.Config.Verdicts.MaxEntries, int64(l.Config.Manifests.MaxBytes))
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

// Close releases the state.
func (e *engine) Close() error {
	e.cache.Close()
	return errors.Join(e.trust.Close(), e.store.Close())
}

// gate builds the gate over e, with the roots and keys as they are now. A root
// that does not suit the policies is left out: what needs it cannot be told,
// which is better than no gate at all.
func (l *Loaded) gate(e *engine) (*verify.Gate, error) {
	trusted, err := e.trust.Use(l.Policies)
	if err != nil {
		return nil, err
	}
	for _, name := range l.unfit(trusted) {
		delete(trusted.Roots, name)
	}

	return verify.New(verify.Config{
		Policies:     l.Policies,
		Trust:        trusted,
		Mode:         l.Config.GateMode(),
		Store:        e.store,
		Cache:        e.cache,
		Limits:       l.limits(),
		Registry:     l.registry,
		Mirrors:      l.mirrors,
		TTL:          l.Config.Verdicts.TTL,
		DenyTTL:      l.Config.Verdicts.DenyTTL,
		TagTTL:       l.Config.Manifests.TagTTL,
		Recheck:      l.Config.Manifests.Recheck,
		StaleIfError: l.Config.Verdicts.StaleIfError,
		EveryLookup:  l.wrap != nil,
		Tracer:       l.telemetry.Tracer,
		Meter:        l.telemetry.Meter,
	})
}

func (l *Loaded) registry(host string) (verify.Registry, bool) {
	u, ok := l.upstreams.Find(host)
	if !ok {
		return nil, false
	}
	if l.wrap != nil {
		return l.wrap(u), true
	}
	return u, true
}

// mirrors are the registries of a host, each for itself. What is recorded is what
// all of them together say.
func (l *Loaded) mirrors(host string) []verify.Registry {
	u, ok := l.upstreams.Find(host)
	if !ok || l.wrap != nil {
		return nil
	}
	var list []verify.Registry
	for _, each := range u.Each() {
		list = append(list, each)
	}
	return list
}

func (l *Loaded) limits() verify.Limits {
	c := l.Config.Limits
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

// snapshot is what requests are answered from while l is in force.
func (l *Loaded) snapshot(gate *verify.Gate) *proxy.Snapshot {
	limits := l.limits()
	s := &proxy.Snapshot{
		Gate:         gate,
		Upstreams:    proxy.Upstreams{Registries: l.upstreams},
		Hostnames:    l.hostnames(),
		Authenticate: l.identities.who.Authenticate,
		Help:         l.Config.Clients.Help,
		Streams: proxy.StreamLimits{
			All:     l.Config.Limits.BlobStreams,
			Client:  l.Config.Limits.ClientBlobStreams,
			MinRate: int64(l.Config.Limits.BlobMinRate),
		},
		Listings: proxy.ListingLimits{
			Timeout: limits.VerifyTimeout,
			Bytes:   limits.ManifestBytes,
		},
	}
	if l.Config.DefaultUpstream != "" {
		s.DefaultUpstream, _ = l.Config.UpstreamHost(l.Config.DefaultUpstream)
	}
	return s
}

// StandaloneGate is a whole gate for one command, which decides with the very
// code that serve runs.
type StandaloneGate struct {
	*verify.Gate
	engine *engine
}

// NewStandaloneGate opens the state at statePath, which no other process may hold.
// It asks for missing roots and keys first; those that cannot be had leave the
// verdict open. A nil log drops its lines.
func NewStandaloneGate(
	ctx context.Context,
	l *Loaded,
	statePath string,
	log *slog.Logger,
) (*StandaloneGate, error) {
	e, err := l.newEngine(statePath, trust.Config{Dir: l.trustDir(), Frozen: true, Log: log})
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, fillTimeout)
	defer cancel()
	if _, err = e.trust.Use(l.Policies); err == nil {
		_ = e.trust.Fill(ctx) // logged; what is missing is said with the verdict
	}

	gate, err := l.gate(e)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return &StandaloneGate{Gate: gate, engine: e}, nil
}

// Close releases the state.
func (g *StandaloneGate) Close() error { return g.engine.Close() }
