package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/pullgate/pullgate/verify"
)

const scope = "github.com/pullgate/pullgate/proxy"

// The outcomes that are no verdict's.
const (
	outcomeError  = "error"
	outcomeListed = "listed"

	// outcomeUnknown is a refused part of nothing known, which says nothing
	// against an image: a client that pushes asks for its own layers first.
	outcomeUnknown = "unknown"

	// outcomeUnidentified is a client that has shown no name, or none that counts.
	// Most clients show one only when they are asked for it.
	outcomeUnidentified = "unidentified"
)

// observer writes the one log line, the span, the metrics and the record of
// each request. No label ever carries an image name: the sets stay bounded.
type observer struct {
	log       *slog.Logger
	tracer    trace.Tracer
	tracing   bool // spans are collected
	wire      propagation.TraceContext
	decisions func(Decision) // nil: decisions are not recorded

	pulls     metric.Int64Counter
	refusals  metric.Int64Counter
	hits      metric.Int64Counter
	redirects metric.Int64Counter
	duration  metric.Float64Histogram
	labels    map[label]options // made once: a request allocates none
}

// label is what the metrics of a request are counted by.
type label struct {
	kind    kind
	outcome string
}

// options are one label set, as the instruments take it.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

// observation is what one request has shown so far, for its log line, span,
// metrics and record.
type observation struct {
	id      string // the decision's, also in the answer, the log and the trace
	span    trace.Span
	start   time.Time
	agent   string // the client's User-Agent, as long as it is
	path    string // with its query, of a request that could not be parsed; as long as it is
	judged  bool   // result is the gate's
	result  verify.Verdict
	opening time.Duration // until an upstream began to send a blob

	redirected bool // the client fetches the blob from where the upstream has it
}

var (
	spanNames = [...]string{
		"pullgate unknown",
		"pullgate ping",
		"pullgate manifest",
		"pullgate blob",
		"pullgate tags",
		"pullgate referrers",
	}
	serverSpan = trace.WithSpanKind(trace.SpanKindServer)

	// durationBounds are the histogram's buckets, in seconds.
	durationBounds = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
)

func newObserver(c Config) (*observer, error) {
	meter := c.Meter.Meter(scope)
	pulls, err1 := meter.Int64Counter("pullgate.requests",
		metric.WithDescription("Requests answered, by kind and outcome."))
	refusals, err4 := meter.Int64Counter("pullgate.refusals",
		metric.WithDescription("Requests refused, by the policy that decided."))
	hits, err2 := meter.Int64Counter("pullgate.cache.hits",
		metric.WithDescription("Decisions answered from the verdict cache."))
	duration, err3 := meter.Float64Histogram("pullgate.request.duration",
		metric.WithUnit("s"),
		metric.WithDescription(
			"Time from request to the answer's end, a blob's streaming included, by kind and outcome."),
		metric.WithExplicitBucketBoundaries(durationBounds...))
	redirects, err5 := meter.Int64Counter("pullgate.blob.redirects",
		metric.WithDescription("Blobs that clients were sent to fetch elsewhere, after they were admitted."))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}

	_, off := c.Tracer.(tracenoop.TracerProvider)
	o := &observer{
		log:       c.Log,
		tracer:    c.Tracer.Tracer(scope),
		tracing:   !off,
		decisions: c.Decisions,
		pulls:     pulls,
		refusals:  refusals,
		hits:      hits,
		redirects: redirects,
		duration:  duration,
		labels:    newLabels(),
	}
	o.startCounting()
	return o, nil
}

// startCounting shows what alerts compare from the first scrape on. A series that
// begins with its first refusal has no rise that could be seen.
func (o *observer) startCounting() {
	o.redirects.Add(context.Background(), 0)
	for _, outcome := range []string{verify.Allowed.String(), verify.Denied.String(), outcomeError} {
		o.pulls.Add(context.Background(), 0, o.labels[label{manifestKind, outcome}].add...)
	}
}

// newLabels makes the label set of every kind and outcome.
func newLabels() map[label]options {
	outcomes := []string{outcomeError, outcomeListed, outcomeUnknown, outcomeUnidentified}
	for _, v := range []verify.Outcome{verify.Denied, verify.Allowed, verify.Warned, verify.WarnedUnverified} {
		outcomes = append(outcomes, v.String())
	}

	labels := map[label]options{}
	for k := kind(0); k <= referrersKind; k++ {
		for _, outcome := range outcomes {
			set := metric.WithAttributeSet(attribute.NewSet(
				attribute.String("kind", k.String()),
				attribute.String("outcome", outcome),
			))
			labels[label{k, outcome}] = options{
				add:    []metric.AddOption{set},
				record: []metric.RecordOption{set},
			}
		}
	}
	return labels
}

// begin gives x its context and its decision id. A span joins the client's
// trace; the trace state, which is the client's own words, goes no further.
func (o *observer) begin(x *exchange, r *http.Request) {
	x.ctx = r.Context()
	x.obs = observation{
		id:    rand.Text(),
		span:  tracenoop.Span{},
		start: time.Now(),
		agent: r.UserAgent(),
	}
	if !o.tracing {
		return
	}

	ctx := o.wire.Extract(x.ctx, propagation.HeaderCarrier(r.Header))
	if caller := trace.SpanContextFromContext(ctx); caller.TraceState().Len() > 0 {
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller.WithTraceState(trace.TraceState{}))
	}
	x.ctx, x.obs.span = o.tracer.Start(ctx, spanNames[x.request.kind], serverSpan)
	if x.obs.span.IsRecording() {
		x.obs.span.SetAttributes(
			attribute.String("pullgate.decision", x.obs.id),
			attribute.String("http.request.method", x.method),
		)
	}
}

// end tells all that is observed of x. err is what it failed with, or nil.
func (o *observer) end(x *exchange, err error) {
	outcome := x.outcome(err)
	took := time.Since(x.obs.start)

	labels := o.labels[label{x.request.kind, outcome}]
	o.pulls.Add(x.ctx, 1, labels.add...)
	o.duration.Record(x.ctx, took.Seconds(), labels.record...)
	if x.obs.result.CacheHit {
		o.hits.Add(x.ctx, 1)
	}
	if outcome == verify.Denied.String() {
		o.refusals.Add(x.ctx, 1, metric.WithAttributes(attribute.String("policy", x.obs.result.Policy)))
	}

	if x.obs.redirected {
		o.redirects.Add(x.ctx, 1)
	}

	if x.obs.span.IsRecording() {
		x.obs.span.SetAttributes(
			attribute.String("pullgate.outcome", outcome),
			attribute.String("pullgate.image", x.request.repo.String()),
			attribute.String("pullgate.policy", x.obs.result.Policy),
			attribute.Bool("pullgate.redirected", x.obs.redirected),
		)
		if name := x.request.client.Name; name != "" {
			x.obs.span.SetAttributes(attribute.String("pullgate.client", name))
		}
		if err != nil && !x.obs.judged {
			x.obs.span.RecordError(err)
		}
	}
	x.obs.span.End()

	o.record(x, outcome, took, err)
	o.write(x, outcome, took, err)
}

// outcome is the verdict's, if there is one and it is about something known.
func (x *exchange) outcome(err error) string {
	switch {
	case x.obs.judged && x.obs.result.Unknown && !x.obs.result.Admitted():
		return outcomeUnknown
	case x.obs.judged:
		return x.obs.result.Outcome.String()
	case err != nil && isUnidentified(err):
		return outcomeUnidentified
	case err != nil:
		return outcomeError
	}
	return outcomeListed
}
