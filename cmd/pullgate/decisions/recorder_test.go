package decisions

import (
	"errors"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pullgate/pullgate/proxy"
)

// dropCounts reads the counter of dropped decisions, by reason.
func dropCounts(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "pullgate.decisions.dropped" {
				continue
			}
			for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
				reason, _ := point.Attributes.Value("reason")
				counts[reason.AsString()] = point.Value
			}
		}
	}
	return counts
}

func recorderTo(t *testing.T, to sink) (*Recorder, *sdkmetric.ManualReader) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	r, err := newRecorder(to, meter, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return r, reader
}

// stuckSink takes nothing until it is released, then everything or nothing.
type stuckSink struct {
	release chan struct{}
	fail    error

	mu  sync.Mutex
	ids []string
}

func (s *stuckSink) write(batch []entry) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return len(batch), s.fail
	}
	for _, one := range batch {
		s.ids = append(s.ids, one.ID)
	}
	return 0, nil
}

func (s *stuckSink) newest() iter.Seq2[[]byte, error] { return func(func([]byte, error) bool) {} }

func (s *stuckSink) close() error { return nil }

// TestFullQueue: a disk that hangs costs decisions, which are counted, and no
// request a moment.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	sink := &stuckSink{release: make(chan struct{})}
	r, metrics := recorderTo(t, sink)
	const many = 5 * maxQueued
	began := time.Now()
	for n := range many {
		r.Take(someDecision(n))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("taking %d decisions took %s", many, took)
	}
	if dropped := dropCounts(t, metrics)["queue_full"]; dropped < many-2*maxQueued-1 || dropped >= many {
		t.Errorf("%d of %d were dropped while the sink hung", dropped, many)
	}
	close(sink.release)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	counts := dropCounts(t, metrics)
	if got := int64(len(sink.ids)) + counts["queue_full"]; got != many || counts["write_failed"] != 0 {
		t.Errorf("written and dropped are %d of %d; %v", got, many, counts)
	}
	if !slices.IsSorted(sink.ids) {
		t.Error("the order is lost")
	}
}

// TestFailedWrites: what the disk does not take is counted.
func TestFailedWrites(t *testing.T) {
	t.Parallel()
	sink := &stuckSink{release: make(chan struct{}), fail: errors.New("no space left on device")}
	close(sink.release)
	r, metrics := recorderTo(t, sink)
	for n := range 100 {
		r.Take(someDecision(n))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if counts := dropCounts(t, metrics); counts["write_failed"] != 100 || counts["queue_full"] != 0 {
		t.Errorf("counted %v", counts)
	}
	r.Take(someDecision(0)) // a pull that outlived the drain
	if counts := dropCounts(t, metrics); counts["queue_full"] != 1 {
		t.Errorf("after the close: %v", counts)
	}
}

// BenchmarkDecision measures what one decision costs the request, and what it
// costs the goroutine that writes.
func BenchmarkDecision(b *testing.B) {
	d := someDecision(1)
	d.Findings, d.Reasons = d.Findings[:1:1], nil
	b.Run("take", func(b *testing.B) {
		sink := &stuckSink{release: make(chan struct{})}
		close(sink.release)
		all, err := newRecorder(sink, sdkmetric.NewMeterProvider(), slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			all.Take(d)
		}
		if err := all.Close(); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("write", func(b *testing.B) {
		f := &file{path: filepath.Join(b.TempDir(), "d.jsonl"), maxBytes: 8 << 20, keep: 1}
		all := &Recorder{sink: f, log: slog.New(slog.DiscardHandler)}
		batch := slices.Repeat([]proxy.Decision{d}, 400)
		b.ReportAllocs()
		for b.Loop() {
			all.write(batch)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/decision")
	})
}
