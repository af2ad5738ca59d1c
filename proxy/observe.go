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

// observer writes the one log line, the span and the metrics of each request.
// No label ever carries an image name: the sets stay bounded.
type observer struct {
	log      *slog.Logger
	tracer   trace.Tracer
	wire     propagation.TraceContext
	pulls    metric.Int64Counter
	hits     metric.Int64Counter
	duration metric.Float64Histogram
	labels   map[label]options // made once: a request allocates none
	tracing  bool              // somebody is there to take spans

	decisions func(Decision) // nil: nobody wants them
}

// options are one label set, as the instruments take it.
type options struct {
	add    []metric.AddOption
	record []metric.RecordOption
}

type label struct {
	kind    kind
	outcome string
}

// The outcomes of a request that carries no verdict.
const (
	outcomeError  = "error"
	outcomeListed = "listed"
)

func newObserver(c Config) (*observer, error) {
	meter := c.Meter.Meter(scope)
	pulls, err1 := meter.Int64Counter(
		"pullgate.requests",
		metric.WithDescription("Requests answered, by kind and outcome."),
	)
	hits, err2 := meter.Int64Counter(
		"pullgate.cache.hits",
		metric.WithDescription("Decisions answered from the verdict cache."),
	)
	duration, err3 := meter.Float64Histogram(
		"pullgate.request.duration",
		metric.WithUnit("s"),
		metric.WithDescription(
			"Time from request to the answer's end, a blob's streaming included, by kind and outcome.",
		),
		metric.WithExplicitBucketBoundaries(
			.0005,
			.001,
			.0025,
			.005,
			.01,
			.025,
			.05,
			.1,
			.25,
			.5,
			1,
			2.5,
			5,
			10,
			30,
			60,
		),
	)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	o := &observer{
		log:       c.Log,
		tracer:    c.Tracer.Tracer(scope),
		pulls:     pulls,
		hits:      hits,
		duration:  duration,
		labels:    map[label]options{},
		decisions: c.Decisions,
	}
	_, off := c.Tracer.(tracenoop.TracerProvider)
	o.tracing = !off
	outcomes := []string{outcomeError, outcomeListed}
	for _, v := range []verify.Outcome{verify.Denied, verify.Allowed, verify.Warned, verify.WarnedUnverified} {
		outcomes = append(outcomes, v.String())
	}
	for k := kind(0); k <= referrersKind; k++ {
		for _, outcome := range outcomes {
			set := metric.WithAttributeSet(
				attribute.NewSet(attribute.String("kind", k.String()), attribute.String("outcome", outcome)),
			)
			o.labels[label{k, outcome}] = options{[]metric.AddOption{set}, []metric.RecordOption{set}}
		}
	}
	return o, nil
}

// observation is what is known of one request so far.
type observation struct {
	ctx     context.Context
	id      string // the decision's, also in the answer, the log and the trace
	span    trace.Span
	start   time.Time
	request request
	method  string
	agent   string
	judged  bool
	result  verify.Verdict
	opening time.Duration // until an upstream began to send a blob
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
)

func (o *observer) begin(r *http.Request, req request) *observation {
	if !o.tracing {
		return &observation{
			id:      rand.Text(),
			start:   time.Now(),
			request: req,
			method:  r.Method,
			agent:   r.UserAgent(),
			ctx:     r.Context(),
			span:    tracenoop.Span{},
		}
	}
	ctx := o.wire.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if caller := trace.SpanContextFromContext(
		ctx,
	); caller.TraceState().Len() > 0 { // the client's own words go no further
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller.WithTraceState(trace.TraceState{}))
	}
	seen := &observation{
		id:      rand.Text(),
		start:   time.Now(),
		request: req,
		method:  r.Method,
		agent:   r.UserAgent(),
	}
	seen.ctx, seen.span = o.tracer.Start(ctx, spanNames[req.kind], serverSpan)
	if seen.span.IsRecording() {
		seen.span.SetAttributes(
			attribute.String("pullgate.decision", seen.id),
			attribute.String("http.request.method", r.Method),
		)
	}
	return seen
}

func (seen *observation) verdict(v verify.Verdict) { seen.judged, seen.result = true, v }

// setDecision puts the id on every answer that carries a decision, and on every
// one whose reason only the log has: old containerd shows its user nothing but
// the status line.
func (seen *observation) setDecision(w http.ResponseWriter) {
	w.Header().Set("Pullgate-Decision", seen.id)
}

func (o *observer) end(seen *observation, err error) {
	outcome := seen.result.Outcome.String()
	if !seen.judged {
		outcome = outcomeError
		if err == nil {
			outcome = outcomeListed
		}
	}
	took := time.Since(seen.start)
	labels := o.labels[label{seen.request.kind, outcome}]
	o.pulls.Add(seen.ctx, 1, labels.add...)
	o.duration.Record(seen.ctx, took.Seconds(), labels.record...)
	if seen.result.CacheHit {
		o.hits.Add(seen.ctx, 1)
	}
	if seen.span.IsRecording() {
		seen.span.SetAttributes(
			attribute.String("pullgate.outcome", outcome),
			attribute.String("pullgate.image", seen.request.repo.String()),
			attribute.String("pullgate.policy", seen.result.Policy),
		)
		if err != nil && !seen.judged {
			seen.span.RecordError(err)
		}
	}
	seen.span.End()
	o.record(seen, outcome, took, err)
	o.write(seen, outcome, took, err)
}

// write logs the decision. Errors are logged whole here and nowhere else; none
// of them carries a token or a password.
func (o *observer) write(seen *observation, outcome string, took time.Duration, err error) {
	level := slog.LevelInfo
	if !o.log.Enabled(seen.ctx, level) && err == nil {
		return
	}
	attrs := append(
		make([]slog.Attr, 0, 16),
		slog.String(
			"outcome",
			outcome,
		),
		slog.String("kind", seen.request.kind.String()),
		slog.String("method", seen.method),
		slog.String("image", seen.request.repo.String()),
		slog.String("reference", seen.request.ref.String()),
		slog.String("client", seen.request.client.Addr),
		slog.String("agent", seen.agent[:min(len(seen.agent), 120)]),
	)
	if seen.judged {
		attrs = append(
			attrs,
			slog.String("digest", seen.result.Digest.String()),
			slog.String("policy", seen.result.Policy),
			slog.Bool("cache", seen.result.CacheHit),
		)
		if seen.result.Signer != "" {
			attrs = append(attrs, slog.String("signer", seen.result.Signer))
		}
		if len(seen.result.Reasons) > 0 {
			attrs = append(attrs, slog.Any("reasons", seen.result.Reasons))
		}
	}
	if err != nil {
		a := asAnswer(err)
		attrs = append(attrs, slog.Int("status", a.status))
		if !seen.judged || a.status != http.StatusForbidden {
			text := err.Error()
			attrs = append(attrs, slog.String("error", text[:min(len(text), maxErrorText)]))
			level = slog.LevelWarn
		}
	}
	attrs = append(
		attrs,
		slog.Float64("ms", milliseconds(took)),
		slog.Float64("upstream_ms", milliseconds(seen.result.Upstream+seen.opening)),
		slog.String("decision", seen.id),
	)
	o.log.LogAttrs(seen.ctx, level, "pull", slog.Attr{Value: slog.GroupValue(attrs...)})
}

// maxErrorText bounds what one error puts into the log, in bytes.
const maxErrorText = 4000

// milliseconds with three digits after the point.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
