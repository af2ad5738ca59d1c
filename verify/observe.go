package verify

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/pullgate/pullgate/policy"
)

const scope = "github.com/pullgate/pullgate/verify"

// observer records a span and a duration for every verdict that is made.
// Answers from memory are not recorded.
type observer struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
}

func newObserver(t trace.TracerProvider, m metric.MeterProvider) (*observer, error) {
	if t == nil {
		t = tracenoop.NewTracerProvider()
	}
	if m == nil {
		m = metricnoop.NewMeterProvider()
	}

	duration, err := m.Meter(scope).Float64Histogram(
		"pullgate.verdict.duration",
		metric.WithUnit("s"),
		metric.WithDescription(
			"Time to find and verify an image's signatures, by outcome; answers from memory are not counted.",
		),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
	)
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}
	return &observer{tracer: t.Tracer(scope), duration: duration}, nil
}

// verdict observes judge, which makes a verdict under p.
func (o *observer) verdict(
	ctx context.Context,
	p *policy.Policy,
	judge func(context.Context) (judgement, error),
) (judgement, error) {
	ctx, span := o.tracer.Start(ctx, "verdict", trace.WithAttributes(attribute.String("pullgate.policy", p.Name)))
	defer span.End()

	start := time.Now()
	v, err := judge(ctx)
	took := time.Since(start)

	outcome := v.Outcome.String()
	if err != nil {
		outcome = "error"
		span.SetStatus(codes.Error, "could not tell")
	}
	span.SetAttributes(attribute.String("pullgate.outcome", outcome))
	o.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("outcome", outcome)))
	return v, err
}
