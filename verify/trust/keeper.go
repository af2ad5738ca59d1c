// Package trust keeps what authorities trust that no policy can hold: Sigstore
// trust roots, which change, and public keys that live in key services. It
// fetches them in the background, keeps the last good ones when a refresh
// fails, and says when one changed. No pull ever waits for it.
package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

const (
	refreshTimeout = time.Minute // for one root or key
	firstBackOff   = 30 * time.Second
	longestBackOff = time.Hour
	keyRefresh     = time.Hour
	askApart       = 5 * time.Second // between two refreshes of one source that somebody asked for
	atOnce         = 8               // refreshes
	maxMaterial    = 8 << 20         // bytes of one root
)

// Config is what a Keeper is made of.
type Config struct {
	Dir    string               // where last good material is kept; empty: nowhere
	Frozen bool                 // Dir is another process's: it is read, never written
	Log    *slog.Logger         // nil: silent
	Meter  metric.MeterProvider // nil: no metrics
	Client *http.Client         // for TUF mirrors; nil: one that follows the proxy variables
}

// Keeper keeps roots and keys. Safe for concurrent use.
type Keeper struct {
	config    Config
	refreshes metric.Int64Counter
	gauges    metric.Registration
	changed   chan struct{}
	wake      chan struct{}

	mu      sync.Mutex
	sources map[string]*source // by what defines them
}

// source is one root or key.
type source struct {
	id    string // of its definition; a file name
	name  string // for people: "trust root corp"
	root  string // the root's name; empty for a key
	key   string // the key's reference; empty for a root
	every time.Duration

	folder bool // it lies on this machine's disk
	fetch  func(context.Context) ([]byte, error)

	used     bool // by the configuration that was last asked for
	good     []byte
	at       time.Time // when good was last confirmed; zero: it came with the program
	due      time.Time
	asked    time.Time // when it was last begun to ask
	failures int
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
	meter := c.Meter.Meter("github.com/pullgate/pullgate/verify/trust")
	var err1, err2, err3 error
	k.refreshes, err1 = meter.Int64Counter(
		"pullgate.trust.refreshes",
		metric.WithDescription(
			"Refreshes of trust roots and key-service keys, by result: unchanged, changed or failed.",
		),
	)
	age, err2 := meter.Float64ObservableGauge(
		"pullgate.trust.age",
		metric.WithUnit("s"),
		metric.WithDescription(
			"Time since a trust root or key was last confirmed by its source, by name; -1 while it is not loaded "+
				"at all.",
		),
	)
	k.gauges, err3 = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for name, seconds := range k.ages() {
			o.ObserveFloat64(age, seconds, metric.WithAttributes(attribute.String("name", name)))
		}
		return nil
	}, age)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	return k, nil
}

// Close ends the metrics.
func (k *Keeper) Close() error { return k.gauges.Unregister() }

// Changed is sent to after a root or key that is in use became another.
func (k *Keeper) Changed() <-chan struct{} { return k.changed }

// Use returns what the policies' authorities trust, as of now, and has it
// refreshed from here on, instead of what was used before. What cannot be had
// without asking somebody is missing until Run or Fill has asked. An error is a
// trust root in a file that is none.
func (k *Keeper) Use(set *policy.Set) (sigs.Trust, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.sources {
		s.used = false
	}
	trust := sigs.Trust{Roots: map[string]*sigs.Root{}, Keys: map[string]policy.Key{}}
	for _, r := range set.TrustRoots() {
		r, first := definition(r)
		text := r.JSON
		if r.TUF != nil {
			text = k.source(rootSource(r, k.config), first).good
		}
		if text == nil {
			continue
		}
		root, err := sigs.ParseRoot(r.Name, text)
		if err != nil {
			return sigs.Trust{}, fmt.Errorf("%s: trust root %q: %w", r.Where, r.Name, err)
		}
		trust.Roots[r.Name] = root
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

func rootSource(r policy.TrustRoot, c Config) *source {
	t := r.TUF
	s := &source{
		name:   "trust root " + r.Name,
		root:   r.Name,
		every:  t.Refresh,
		folder: t.Directory != "",
	}
	s.id = identify("root", t.Mirror, t.Directory, t.Target, string(t.Root))
	cache := ""
	if c.Dir != "" && !c.Frozen {
		cache = filepath.Join(c.Dir, s.id+".tuf")
	}
	s.fetch = func(ctx context.Context) ([]byte, error) { return fetchTUF(ctx, t, cache, c.Client) }
	return s
}

func keySource(reference string) *source {
	return &source{
		name:  "key " + reference,
		key:   reference,
		every: keyRefresh,
		id:    identify("key", reference),
		fetch: func(ctx context.Context) ([]byte, error) { return fetchKey(ctx, reference) },
	}
}

func identify(kind string, parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return kind + "-" + hex.EncodeToString(h.Sum(nil))[:32]
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
	if k.config.Dir == "" {
		return s
	}
	file := filepath.Join(k.config.Dir, s.id)
	text, err := os.ReadFile(file)
	if err == nil {
		err = s.check(text)
	}
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			k.config.Log.Warn("what was kept of it cannot be used", "what", s.name, "error", err)
		}
		return s
	}
	s.good = text
	if info, err := os.Stat(file); err == nil {
		s.at = info.ModTime()
	}
	return s
}

// check reports whether text is what the source should give.
func (s *source) check(text []byte) error {
	if len(text) > maxMaterial {
		return fmt.Errorf("it is larger than %d MiB", maxMaterial>>20)
	}
	if s.root != "" {
		_, err := sigs.ParseRoot(s.root, text)
		return err
	}
	_, err := policy.ParseKey(text)
	return err
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

// refreshAll asks several at once, so that one that stalls holds up few others.
func (k *Keeper) refreshAll(ctx context.Context, list []*source) error {
	failed := make([]error, len(list))
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i, s := range list {
		all.Go(func() error {
			if failed[i] = ctx.Err(); failed[i] == nil {
				failed[i] = k.refresh(ctx, s)
			}
			return nil
		})
	}
	_ = all.Wait() // each has its own error
	return errors.Join(failed...)
}

// due lists the sources in use that are as asked, in the order of their names.
func (k *Keeper) due(is func(*source) bool) []*source {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []*source
	for _, s := range k.sources {
		if s.used && is(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *source) int { return strings.Compare(a.name+a.id, b.name+b.id) })
	return list
}

func (k *Keeper) untilNext() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := longestBackOff
	for _, s := range k.sources {
		if s.used {
			next = min(next, time.Until(s.due))
		}
	}
	return max(next, time.Second)
}

// refresh asks one source. What it had stays when that fails, whatever it is
// that was answered.
func (k *Keeper) refresh(ctx context.Context, s *source) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	k.mu.Lock()
	s.asked = time.Now()
	k.mu.Unlock()
	text, err := s.ask(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	result := "unchanged"
	switch {
	case err != nil:
		result = "failed"
		s.failures++
		wait := min(longestBackOff, firstBackOff<<min(s.failures-1, 10))
		s.due = time.Now().Add(min(wait, s.every))
		then := "a refresh failed; what was there stays in use"
		if s.good == nil {
			then = "it cannot be loaded; pulls that need it are answered 503 until it is"
		}
		k.config.Log.Warn(then, "what", s.name, "again in", wait.String(), "error", err)
	default:
		s.failures, s.due = 0, time.Now().Add(s.every)
		s.at = time.Now()
		if !bytes.Equal(text, s.good) {
			result = "changed"
			s.good = text
			k.config.Log.Info("loaded", "what", s.name)
			select {
			case k.changed <- struct{}{}:
			default: // somebody will look anyway
			}
		}
		k.keep(s)
	}
	k.refreshes.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result)))
	return err
}

// ask fetches and checks; a source that panics has failed.
func (s *source) ask(ctx context.Context) (text []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			text, err = nil, fmt.Errorf("%s: %v", s.name, p)
		}
	}()
	if text, err = s.fetch(ctx); err == nil {
		err = s.check(text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return text, nil
}

// keep writes what is good to disk, for the next start.
func (k *Keeper) keep(s *source) {
	if k.config.Dir == "" || k.config.Frozen {
		return
	}
	err := os.MkdirAll(k.config.Dir, 0o700)
	file := filepath.Join(k.config.Dir, s.id)
	if err == nil {
		err = os.WriteFile(file+".new", s.good, 0o600)
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		k.config.Log.Warn("it cannot be kept for the next start", "what", s.name, "error", err)
	}
}

// ages are seconds since each was confirmed, by name.
func (k *Keeper) ages() map[string]float64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	ages := map[string]float64{}
	for _, s := range k.sources {
		switch {
		case !s.used:
		case s.good == nil:
			ages[s.root+s.key] = -1
		case s.at.IsZero(): // it came with the program and nobody has confirmed it
			ages[s.root+s.key] = time.Since(built).Seconds()
		default:
			ages[s.root+s.key] = time.Since(s.at).Seconds()
		}
	}
	return ages
}

// built is when the roots that come with the program were confirmed.
var built = time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)
