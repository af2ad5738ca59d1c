package decisions

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/proxy"
)

const (
	maxQueued      = 8192                  // decisions that wait to be written
	maxBufferBytes = 4 << 20               // of a buffer for lines that is used again
	linger         = 10 * time.Millisecond // a write for every line would cost more than the line
	closeTime      = 5 * time.Second
	complainEvery  = time.Minute // between two log lines about decisions that were lost
)

// Config says where decisions are written.
type Config struct {
	To       string // "file", "stdout", "otlp" or "none"
	File     string // of "file"
	MaxBytes int64  // of one file
	Keep     int    // older files beside it

	Meter metric.MeterProvider
	Log   *slog.Logger
}

// sink is where decisions are written. One goroutine writes and closes; newest
// may be called concurrently.
type sink interface {
	// write takes entries in their order, and returns how many of them it lost.
	write(batch []entry) (lost int, err error)
	// newest yields the lines that can still be read, the newest first. Where lines
	// cannot be read it yields an error, and may go on with older ones.
	newest() iter.Seq2[[]byte, error]
	close() error
}

// entry is a record and its line of JSON, the newline included. The line is
// valid until write returns.
type entry struct {
	Record
	line []byte
}

// Recorder takes decisions from requests and never makes one wait: encoding and
// writing happen on a goroutine of its own, and what that cannot keep up with, or
// cannot write, is dropped and counted. A nil Recorder records nothing.
type Recorder struct {
	sink      sink
	log       *slog.Logger
	dropped   metric.Int64Counter
	full      metric.MeasurementOption // why: the queue was full
	failed    metric.MeasurementOption // why: it could not be written
	searching chan struct{}            // one search at a time

	mu     sync.Mutex
	taken  []proxy.Decision
	closed bool

	wake  chan struct{} // something was taken
	stop  chan struct{}
	ended chan struct{}

	// Only run touches these.
	complained time.Time
	text       []byte // made once and used again
	batch      []entry
}

// Open starts to record as c says. It returns nil where decisions are written
// nowhere. A file is opened with the first decision, so that a gate without a
// disk still serves.
func Open(ctx context.Context, c Config) (*Recorder, error) {
	var to sink
	switch c.To {
	case "none":
		return nil, nil
	case "stdout":
		to = &stream{w: os.Stdout}
	case "otlp":
		var err error
		if to, err = newExport(ctx); err != nil {
			return nil, err
		}
	default:
		to = &file{path: c.File, maxBytes: c.MaxBytes, keep: c.Keep}
	}
	return newRecorder(to, c.Meter, c.Log)
}

func newRecorder(to sink, meter metric.MeterProvider, log *slog.Logger) (*Recorder, error) {
	dropped, err := meter.Meter("github.com/pullgate/pullgate").Int64Counter("pullgate.decisions.dropped",
		metric.WithDescription("Decisions that were not recorded, by reason: queue_full or write_failed."))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}

	why := func(reason string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", reason)))
	}
	r := &Recorder{
		sink:      to,
		log:       log,
		dropped:   dropped,
		full:      why("queue_full"),
		failed:    why("write_failed"),
		searching: make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
		stop:      make(chan struct{}),
		ended:     make(chan struct{}),
	}

	// An alert needs a zero to start from.
	for _, reason := range []metric.MeasurementOption{r.full, r.failed} {
		dropped.Add(context.Background(), 0, reason)
	}

	go r.run()
	return r, nil
}

// Taker returns Take, or nil for a nil Recorder.
func (r *Recorder) Taker() func(proxy.Decision) {
	if r == nil {
		return nil
	}
	return r.Take
}

// Take queues a decision. It never waits, and may be called concurrently.
func (r *Recorder) Take(d proxy.Decision) {
	r.mu.Lock()
	if len(r.taken) >= maxQueued || r.closed {
		r.mu.Unlock()
		r.dropped.Add(context.Background(), 1, r.full)
		return
	}
	r.taken = append(r.taken, d)
	first := len(r.taken) == 1
	r.mu.Unlock()

	if !first {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // it is about to look anyway
	}
}

func (r *Recorder) run() {
	defer close(r.ended)

	var spare []proxy.Decision
	for stopping := false; !stopping; {
		select {
		case <-r.wake:
			select {
			case <-time.After(linger):
			case <-r.stop:
			}
		case <-r.stop:
			stopping = true
		}

		r.mu.Lock()
		spare, r.taken = r.taken, spare[:0]
		r.mu.Unlock()

		r.write(spare)
		clear(spare) // their texts are not kept
	}
}

func (r *Recorder) write(decisions []proxy.Decision) {
	if len(decisions) == 0 {
		return
	}

	text, batch := r.text[:0], r.batch[:0]
	for i := range decisions {
		batch = append(batch, entry{Record: newRecord(&decisions[i])})
		last, from := &batch[len(batch)-1], len(text)
		text = appendLine(text, &last.Record)
		last.line = text[from:len(text):len(text)] // stays as it is when text grows into another array
	}

	lost, err := r.sink.write(batch)
	clear(batch) // their texts are not kept
	r.batch = batch
	if cap(text) <= maxBufferBytes {
		r.text = text
	}

	if lost > 0 {
		r.dropped.Add(context.Background(), int64(lost), r.failed)
	}
	if err != nil && time.Since(r.complained) > complainEvery {
		r.complained = time.Now()
		const message = "decisions could not be recorded; pulls go on, and what is lost is counted in " +
			"pullgate_decisions_dropped_total"
		r.log.Error(message, "lost", lost, "error", err)
	}
}

// Close writes what was taken, for closeTime at most.
func (r *Recorder) Close() error {
	if r == nil {
		return nil
	}

	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()

	close(r.stop)
	select {
	case <-r.ended:
		return r.sink.close()
	case <-time.After(closeTime):
		return errors.New("the last decisions could not be written within " + closeTime.String())
	}
}
