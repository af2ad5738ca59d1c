package upstream

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/pullgate/pullgate/proxy/upstream"

// observer makes a span and a measurement of every request that leaves the gate.
// The labels are the configured host, the operation and the status, so that
// their number is bounded.
type observer struct {
	host     string
	tracer   trace.Tracer
	duration metric.Float64Histogram
}

func newObserver(host string, t trace.TracerProvider, m metric.MeterProvider) (*observer, error) {
	duration, err := m.Meter(scope).Float64Histogram(
		"pullgate.upstream.duration",
		metric.WithUnit("s"),
		metric.WithDescription(
			"Time until an upstream's response headers, by upstream, operation and status; error where none came.",
		),
		metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
	)
	if err != nil {
		return nil, fmt.Errorf("create metrics: %w", err)
	}

	return &observer{host: host, tracer: t.Tracer(scope), duration: duration}, nil
}

func (o *observer) roundTrip(t http.RoundTripper, req *http.Request, operation string) (*http.Response, error) {
	ctx, span := o.tracer.Start(
		req.Context(),
		"upstream "+operation,
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			attribute.String("server.address", req.URL.Host),
			attribute.String("http.request.method", req.Method),
		),
	)
	defer span.End()

	req = req.WithContext(ctx)
	if span.IsRecording() { // a span that is not recorded here would be the client's own header
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(req.Header))
	}

	start := time.Now()
	resp, err := t.RoundTrip(req)
	status := "error"
	if err == nil {
		status = strconv.Itoa(resp.StatusCode)
		span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	} else {
		span.SetStatus(codes.Error, "no answer")
	}

	o.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(
		attribute.String("upstream", o.host),
		attribute.String("operation", operation),
		attribute.String("status", status),
	))

	return resp, err
}
