package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/proxy"
)

const (
	maxDecisionsQueued = 8192
	maxDecisionBytes   = 64 << 10              // of one line
	maxDecisionsKept   = 4 << 20               // bytes of a buffer for lines that is used again
	decisionsLinger    = 10 * time.Millisecond // a write for every line would cost more than the line
	decisionsCloseTime = 5 * time.Second
	decisionsComplain  = time.Minute // between two log lines about decisions that were lost
)

// decisionSink is where decisions go. One goroutine writes; anybody may read.
type decisionSink interface {
	// write takes decisions in order and says how many of them it could not take.
	write(batch []recorded) (lost int, err error)
	// newest yields the lines that can still be read, the newest first.
	newest() iter.Seq2[[]byte, error]
	close() error
}

// recorded is a decision and its line of JSON, the newline included. The line
// is good until write returns.
type recorded struct {
	proxy.Decision
	line []byte
}

// decisions takes decisions from requests and never makes one wait: encoding
// and writing happen on a goroutine of their own, and what it cannot keep up
// with, or cannot write, is dropped and counted.
type decisions struct {
	sink    decisionSink
	log     *slog.Logger
	dropped metric.Int64Counter
	full    metric.MeasurementOption // why: the queue was full
	failed  metric.MeasurementOption // why: it could not be written
	reading chan struct{}            // one search at a time

	mu     sync.Mutex
	taken  []proxy.Decision
	closed bool

	wake  chan struct{} // something was taken
	stop  chan struct{}
	ended chan struct{}

	// Only run touches these.
	complained time.Time
	text       []byte // made once and used again
	out        []recorded
}

// openDecisions opens what the configuration names; nil: decisions go nowhere.
func openDecisions(
	ctx context.Context,
	c *config.Config,
	meter metric.MeterProvider,
	log *slog.Logger,
) (*decisions, error) {
	var sink decisionSink
	switch c.Decisions.To {
	case "none":
		return nil, nil
	case "stdout":
		sink = &decisionStream{w: os.Stdout}
	case "otlp":
		var err error
		if sink, err = newDecisionExport(ctx); err != nil {
			return nil, err
		}
	default:
		sink = &decisionFile{path: c.DecisionsFile(), maxBytes: int64(c.Decisions.MaxBytes), keep: c.Decisions.Keep}
	}
	return newDecisions(sink, meter, log)
}

func newDecisions(sink decisionSink, meter metric.MeterProvider, log *slog.Logger) (*decisions, error) {
	dropped, err := meter.Meter("github.com/pullgate/pullgate").Int64Counter("pullgate.decisions.dropped",
		metric.WithDescription("Decisions that were not recorded, by reason: queue_full or write_failed."))
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	why := func(reason string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", reason)))
	}
	d := &decisions{
		sink:    sink,
		log:     log,
		dropped: dropped,
		full:    why("queue_full"),
		failed:  why("write_failed"),
		reading: make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	for _, reason := range []metric.MeasurementOption{d.full, d.failed} { // an alert needs a zero to start from
		dropped.Add(context.Background(), 0, reason)
	}
	go d.run()
	return d, nil
}

// Taker is take, or nil where decisions go nowhere.
func (d *decisions) Taker() func(proxy.Decision) {
	if d == nil {
		return nil
	}
	return d.take
}

// take is what requests call.
func (d *decisions) take(one proxy.Decision) {
	d.mu.Lock()
	if len(d.taken) >= maxDecisionsQueued || d.closed {
		d.mu.Unlock()
		d.dropped.Add(context.Background(), 1, d.full)
		return
	}
	d.taken = append(d.taken, one)
	first := len(d.taken) == 1
	d.mu.Unlock()
	if first {
		select {
		case d.wake <- struct{}{}:
		default: // it is about to look anyway
		}
	}
}

func (d *decisions) run() {
	defer close(d.ended)
	var spare []proxy.Decision
	for stopping := false; !stopping; {
		select {
		case <-d.wake:
			select {
			case <-time.After(decisionsLinger):
			case <-d.stop:
			}
		case <-d.stop:
			stopping = true
		}
		d.mu.Lock()
		spare, d.taken = d.taken, spare[:0]
		d.mu.Unlock()
		d.write(spare)
		clear(spare) // their texts are not kept
	}
}

func (d *decisions) write(batch []proxy.Decision) {
	if len(batch) == 0 {
		return
	}
	text, out := d.text[:0], d.out[:0]
	for _, one := range batch {
		out = append(out, recorded{Decision: harmless(one)})
		last, from := &out[len(out)-1], len(text)
		text = appendDecision(text, &last.Decision)
		last.line = text[from:len(text):len(text)] // what text grew out of stays as it is
	}
	lost, err := d.sink.write(out)
	clear(out) // their texts are not kept
	if d.out = out; cap(text) <= maxDecisionsKept {
		d.text = text
	}
	if lost > 0 {
		d.dropped.Add(context.Background(), int64(lost), d.failed)
	}
	if err != nil && time.Since(d.complained) > decisionsComplain {
		d.complained = time.Now()
		d.log.Error(
			"decisions could not be recorded; pulls go on, and what is lost is counted in "+
				"pullgate_decisions_dropped_total",
			"lost",
			lost,
			"error",
			err,
		)
	}
}

// Close writes what was taken, for five seconds at most.
func (d *decisions) Close() error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	close(d.stop)
	select {
	case <-d.ended:
		return d.sink.close()
	case <-time.After(decisionsCloseTime):
		return errors.New("the last decisions could not be written within " + decisionsCloseTime.String())
	}
}

// decisionStream writes lines to a stream, and keeps the newest in memory.
type decisionStream struct {
	w io.Writer
	recentDecisions
}

func (s *decisionStream) write(batch []recorded) (int, error) {
	s.keep(batch)
	var all bytes.Buffer
	for _, r := range batch {
		all.Write(r.line)
	}
	n, err := s.w.Write(all.Bytes())
	if err == nil {
		return 0, nil
	}
	whole := bytes.Count(all.Bytes()[:n], []byte("\n"))
	return len(batch) - whole, fmt.Errorf("write decisions to standard output: %w", err)
}

func (s *decisionStream) close() error { return nil }

// maxRecentBytes bounds the lines in memory where no file keeps them.
const maxRecentBytes = 8 << 20

// recentDecisions are the newest lines, for GET /decisions.
type recentDecisions struct {
	mu    sync.Mutex
	lines [][]byte
	bytes int
}

func (r *recentDecisions) keep(batch []recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range batch {
		r.lines = append(r.lines, bytes.Clone(one.line))
		r.bytes += len(one.line)
	}
	old := 0
	for r.bytes > maxRecentBytes {
		r.bytes -= len(r.lines[old])
		old++
	}
	if old > 0 {
		r.lines = slices.Delete(r.lines, 0, old)
	}
}

func (r *recentDecisions) newest() iter.Seq2[[]byte, error] {
	r.mu.Lock()
	lines := slices.Clone(r.lines)
	r.mu.Unlock()
	return func(yield func([]byte, error) bool) {
		for _, line := range slices.Backward(lines) {
			if !yield(line, nil) {
				return
			}
		}
	}
}
