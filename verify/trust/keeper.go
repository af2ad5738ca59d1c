// Package trust keeps what authorities trust that no policy can hold: Sigstore
// trust roots, which change, and public keys that live in key services. It
// fetches them in the background, keeps the last good ones when a refresh
// fails, and says when one changed. No pull ever waits for it. It does not know
// gates, images or signatures.
package trust

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

// Config is what a Keeper is made of.
type Config struct {
	Dir    string               // where last good material is kept; empty: nowhere
	Frozen bool                 // Dir is another process's: it is read, never written
	Log    *slog.Logger         // nil: silent
	Meter  metric.MeterProvider // nil: no metrics
	Client *http.Client         // for TUF mirrors; nil: one that follows the proxy variables
}

// Keeper keeps roots and keys. It is safe for concurrent use.
type Keeper struct {
	config    Config
	refreshes metric.Int64Counter
	gauges    metric.Registration
	changed   chan struct{}
	wake      chan struct{}

	mu      sync.Mutex
	sources map[string]*source // by what defines them
}

// New makes a Keeper that keeps nothing yet.
func New(c Config) (*Keeper, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Meter == nil {
		c.Meter = metricnoop.NewMeterProvider()
	}
	if c.Client == nil {
		c.Client = &http.Client{}
	}

	k := &Keeper{
		config:  c,
		changed: make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		sources: map[string]*source{},
	}
	if err := k.measure(); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	return k, nil
}

// Close ends the metrics.
func (k *Keeper) Close() error { return k.gauges.Unregister() }

// Changed is sent to after a root or key that is in use became another.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Use returns what the policies' authorities trust, as of now, and has that
// refreshed from here on, instead of what was used before. A root or key that
// has to be fetched first is missing until Run or Fill has fetched it. An error
// is a trust root in a file that is none.
func (k *Keeper) Use(set *policy.Set) (sigs.Trust, error) {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range k.sources {
		s.used = false
	}

	trust := sigs.Trust{Roots: map[string]*sigs.Root{}, Keys: map[string]policy.Key{}}
	for _, r := range set.TrustRoots() {
		root, err := k.root(r)
		if err != nil {
			return sigs.Trust{}, fmt.Errorf("%s: trust root %q: %w", r.Where, r.Name, err)
		}
		if root != nil {
			trust.Roots[r.Name] = root
		}
	}
	for _, reference := range set.KeyReferences() {
		s := k.source(keySource(reference), nil)
		if s.good == nil {
			continue
		}
		key, err := policy.ParseKey(s.good)
		if err != nil {
			return sigs.Trust{}, fmt.Errorf("key %s %w", reference, err)
		}
		key.Source = reference
		trust.Keys[reference] = key
	}

	k.wakeUp()
	return trust, nil
}

// root is the trust root as it is now; nil: it has not been loaded.
func (k *Keeper) root(r policy.TrustRoot) (*sigs.Root, error) {
	r, first := definition(r)
	text := r.JSON
	if r.TUF != nil {
		text = k.source(rootSource(r, k.config), first).good
	}
	if text == nil {
		return nil, nil
	}

	return sigs.ParseRoot(r.Name, text)
}

// source is the one that s describes: the one there is, or s with what is on
// disk, or with what it begins with.
func (k *Keeper) source(s *source, first []byte) *source {
	if known := k.sources[s.id]; known != nil {
		known.used, known.every = true, s.every
		if soon := time.Now().Add(s.every); soon.Before(known.due) {
			known.due = soon
		}
		if known.folder { // it may be its change that made the configuration load again
			known.due = time.Time{}
		}
		return known
	}

	s.used, s.good = true, first
	k.sources[s.id] = s
	k.load(s)
	return s
}

// Ask has every source in use asked at once, whatever its time, but none again
// within seconds.
func (k *Keeper) Ask() {
	k.mu.Lock()
	defer k.mu.Unlock()

	for _, s := range k.sources {
		if soon := s.asked.Add(askApart); soon.Before(s.due) {
			s.due = soon
		}
	}
	k.wakeUp()
}

func (k *Keeper) wakeUp() {
	select {
	case k.wake <- struct{}{}:
	default: // it is about to look
	}
}

// Fill asks for what is in use and missing, and waits: for a command that runs
// once. What is there already is not refreshed.
func (k *Keeper) Fill(ctx context.Context) error {
	return k.refreshAll(ctx, k.due(func(s *source) bool { return s.good == nil }))
}

// Run refreshes until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-timer.C:
		}

		now := time.Now()
		_ = k.refreshAll(ctx, k.due(func(s *source) bool { return !s.due.After(now) })) // logged, and tried again
		timer.Reset(k.untilNext())
	}
}
