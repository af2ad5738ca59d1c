package replicas

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/pullgate/pullgate/verify/facts"
)

const (
	maxQueued      = 10_000
	maxQueuedBytes = 64 << 20
	queuedOverhead = 512 // bytes of a fact beside its manifest and digests
)

// queue holds facts that could not be written to the shared store yet. The oldest
// make room, and that is remembered. Safe for concurrent use.
type queue struct {
	mu    sync.Mutex
	facts []facts.Fact // the oldest first
	bytes int
	lost  bool
	some  chan struct{} // holds one when there is something to write
}

func newQueue() *queue { return &queue{some: make(chan struct{}, 1)} }

func (q *queue) put(f facts.Fact) {
	q.mu.Lock()
	defer q.mu.Unlock()

	q.facts = append(q.facts, f)
	q.bytes += weight(f)
	for len(q.facts) > maxQueued || q.bytes > maxQueuedBytes {
		q.dropFirst()
		q.lost = true
	}

	select {
	case q.some <- struct{}{}:
	default:
	}
}

// dropFirst forgets the oldest. q.mu is held.
func (q *queue) dropFirst() {
	q.bytes -= weight(q.facts[0])
	q.facts[0] = facts.Fact{} // the slice may stay for long
	q.facts = q.facts[1:]
}

// first is the oldest; false when there is none.
func (q *queue) first() (facts.Fact, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if len(q.facts) == 0 {
		return facts.Fact{}, false
	}
	return q.facts[0], true
}

// written removes f if it still is the oldest.
func (q *queue) written(f facts.Fact) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if len(q.facts) > 0 && q.facts[0].Repository == f.Repository && q.facts[0].Manifest.Digest == f.Manifest.Digest {
		q.dropFirst()
	}
}

// lostSome reports whether facts had to make room since the last call.
func (q *queue) lostSome() bool {
	q.mu.Lock()
	defer q.mu.Unlock()

	lost := q.lost
	q.lost = false
	return lost
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.facts)
}

func weight(f facts.Fact) int {
	n := queuedOverhead + len(f.Manifest.Bytes) + 80*(len(f.Parts.Manifests)+len(f.Parts.Blobs))
	if f.Evidence != nil {
		n += facts.MaxEvidenceBytes / 8
		for _, s := range f.Evidence.Signatures {
			n += len(s.Payload)
		}
	}
	return n
}

func (q *queue) measure(provider metric.MeterProvider) (metric.Registration, error) {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}
	meter := provider.Meter("github.com/pullgate/pullgate")
	waiting, err := meter.Int64ObservableGauge(
		"pullgate.database.queue",
		metric.WithDescription("Facts that wait to be written to the shared database."),
	)
	if err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(waiting, int64(q.len()))
		return nil
	}, waiting)
}
