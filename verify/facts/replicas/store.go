// Package replicas is the store of a gate that shares its facts with other gates:
// a store of its own, which answers first and is durable first, and a shared one,
// which is written after it and asked about what the own one does not know. It
// knows when the shared store may lack something. It must not know SQL, verdicts
// or HTTP.
package replicas

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	// patience is how long a pull waits for the shared store, reading or writing.
	patience = 250 * time.Millisecond

	// touchEvery is how often what is used is written again, so that the shared
	// store does not forget it.
	touchEvery = 7 * 24 * time.Hour
)

// Own is the store of this replica alone.
type Own interface {
	facts.Store
	// Each calls do with all that is known, and ends at its first error.
	Each(ctx context.Context, do func(facts.Fact) error) error
	// Told is the shared store to which all of it had been written at the last end.
	Told() string
	// SetTold says so at this end.
	SetTold(identity string) error
}

// Config is what a Store is made of.
type Config struct {
	Own    Own
	Shared *postgres.Store
	// EvidenceTTL is for how long after it was fetched evidence of others counts:
	// as long as a verdict does.
	EvidenceTTL time.Duration
	MaxBytes    int64                // of the facts in the shared store, about
	Log         *slog.Logger         // nil: no lines
	Meter       metric.MeterProvider // nil: no metrics
}

// Store implements facts.Store. Parents and Indexes are those of this replica;
// Others has what the other replicas know. Safe for concurrent use.
type Store struct {
	own      Own
	shared   *postgres.Store
	evidence time.Duration
	maxBytes int64
	log      *slog.Logger
	queue    *queue
	gauge    metric.Registration

	checks  checks
	doubts  chan struct{} // holds one when the shared store was found to be wrong
	stop    context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	identity string    // of the shared store, as the last pulse found it
	whole    string    // the identity to which all that is known here has been written; empty: to none
	walk     bool      // all that is known here is to be written again
	away     bool      // as was last logged
	beaten   time.Time // the database's time of the last beat
}

var _ facts.Store = (*Store)(nil)

// New returns the store, which owns c.Shared from now on, and begins to keep in touch
// with the shared one. It waits a moment for its first answer. It fails where another
// program's schema is in the database, and not where the database is away.
func New(ctx context.Context, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		own:      c.Own,
		shared:   c.Shared,
		evidence: c.EvidenceTTL,
		maxBytes: c.MaxBytes,
		log:      c.Log,
		queue:    newQueue(),
		doubts:   make(chan struct{}, 1),
		whole:    c.Own.Told(),
	}
	var err error
	if s.gauge, err = s.queue.measure(c.Meter); err != nil {
		return nil, err
	}

	first, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	err = s.shared.Ready(first)
	var foreign *postgres.SchemaError
	if errors.As(err, &foreign) {
		return nil, errors.Join(err, s.gauge.Unregister())
	}
	s.pulse(first)

	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.running.Go(func() { s.keepInTouch(run) })
	s.running.Go(func() { s.sweep(run) })
	return s, nil
}

// Close writes what is still to be written, for a moment, and closes the shared
// store. The own one stays open.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()

	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	var err error
	if s.drain(ctx) == nil {
		_ = s.shared.Leave(ctx) // else the others wait for it a while
		if whole := s.claim().Whole; whole != "" {
			err = s.own.SetTold(whole)
		}
	}
	return errors.Join(err, s.gauge.Unregister(), s.shared.Close())
}

// Learn implements facts.Store: durable here when it returns, and for the other
// replicas too unless the shared store did not answer in time. Then it is written
// later.
func (s *Store) Learn(ctx context.Context, f facts.Fact) (facts.Learned, error) {
	shared := s.shared.Era()
	learned, err := s.own.Learn(ctx, f)
	if err != nil {
		return facts.Learned{}, err
	}
	learned.Epoch = joined(learned.Epoch, shared)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	told, err := s.shared.Learn(ctx, s.worthTelling(f))
	if err != nil {
		s.queue.put(s.worthTelling(f))
		return learned, nil
	}
	for _, d := range told.PushedOut {
		if !slices.Contains(learned.PushedOut, d) {
			learned.PushedOut = append(learned.PushedOut, d)
		}
	}
	return learned, nil
}

// worthTelling is f without what others would not believe: when a registry last had
// it, unless that is sealed, and evidence that is too old.
func (s *Store) worthTelling(f facts.Fact) facts.Fact {
	if f.Evidence != nil && time.Since(f.Evidence.FetchedAt) > s.evidence {
		f.Evidence = nil
	}
	if !s.shared.Sealed() {
		f.SeenAt = time.Time{}
	}
	return f
}

// Epoch implements facts.Store.
func (s *Store) Epoch(ctx context.Context, repo policy.Repository) uint64 {
	return joined(s.own.Epoch(ctx, repo), s.shared.Era())
}

// joined is an epoch that changes when one of the two does. Era counts what seldom
// happens, and own epochs count from one.
func joined(own, shared uint64) uint64 {
	return own + (shared+uint64(time.Now().Unix())/uint64(touchEvery/time.Second))<<40
}

// Indexes implements facts.Store.
func (s *Store) Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error) {
	return s.own.Indexes(ctx, repo)
}

// Parents implements facts.Store.
func (s *Store) Parents(
	ctx context.Context,
	repo policy.Repository,
	kind facts.PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	return s.own.Parents(ctx, repo, kind, d)
}

// Manifest implements facts.Store. What the shared store does not say is not known:
// a registry has it.
func (s *Store) Manifest(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
) (oci.Manifest, bool, error) {
	m, ok, err := s.own.Manifest(ctx, repo, d)
	if ok || err != nil {
		return m, ok, err
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, ok, err = s.shared.Manifest(ctx, repo, d)
	return m, ok && err == nil, nil
}

// Seen implements facts.Store. The shared store is believed where a gate has sealed
// what it says.
func (s *Store) Seen(ctx context.Context, repo policy.Repository, d digest.Digest) (time.Time, error) {
	at, err := s.own.Seen(ctx, repo, d)
	if !at.IsZero() || err != nil || !s.shared.Sealed() {
		return at, err
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at, err = s.shared.Seen(ctx, repo, d)
	if err != nil {
		return time.Time{}, nil // the registry is asked
	}
	return at, nil
}

// Evidence implements facts.Store, with what this replica has fetched itself.
func (s *Store) Evidence(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
	maxAge time.Duration,
) (facts.Evidence, error) {
	return s.own.Evidence(ctx, repo, d, now, maxAge)
}
