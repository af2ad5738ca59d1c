// Package telemetry starts the OpenTelemetry SDK as the OTEL_* variables say, and
// knows what this process calls itself in every signal. What is measured is the
// business of the rooms that measure.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

// flushTime bounds how long Stop waits for what is still to be sent.
const flushTime = 5 * time.Second

// SDK is the OpenTelemetry SDK as this program uses it: metrics for
// /metrics always; spans, and metrics pushed in addition, as the OTEL_*
// variables say. Without any of them nothing leaves the process.
type SDK struct {
	Tracer  trace.TracerProvider
	Meter   metric.MeterProvider
	Metrics http.Handler // GET /metrics, in Prometheus' format

	close []func(context.Context) error
}

// None returns an SDK that measures nothing, for the commands that end by
// themselves.
func None() *SDK {
	return &SDK{
		Tracer:  tracenoop.NewTracerProvider(),
		Meter:   metricnoop.NewMeterProvider(),
		Metrics: http.NotFoundHandler(),
	}
}

// Start starts what the environment asks for. Stop must be called at the end.
func Start(ctx context.Context) (*SDK, error) {
	about, err := Resource()
	if err != nil {
		return nil, err
	}

	registry, exporter, err := newPrometheus()
	if err != nil {
		return nil, err
	}

	options := []sdkmetric.Option{sdkmetric.WithResource(about), sdkmetric.WithReader(exporter)}
	if Wanted("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, fmt.Errorf("start pushing metrics: %w", err)
		}
		options = append(options, sdkmetric.WithReader(reader))
	}

	meter := sdkmetric.NewMeterProvider(options...)
	t := &SDK{
		Tracer:  tracenoop.NewTracerProvider(),
		Meter:   meter,
		Metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
		close:   []func(context.Context) error{meter.Shutdown},
	}

	if Wanted("TRACES") {
		spans, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("start tracing: %w", err)
		}
		// The SDK itself reads OTEL_TRACES_SAMPLER.
		tracer := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(spans))
		t.Tracer = tracer
		t.close = append(t.close, tracer.Shutdown)
	}
	return t, nil
}

// newPrometheus returns the registry that /metrics shows and the reader that
// fills it.
func newPrometheus() (*prometheus.Registry, *otelprom.Exporter, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)

	exporter, err := otelprom.New(
		otelprom.WithRegisterer(registry),
		otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo(),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("start metrics: %w", err)
	}
	return registry, exporter, nil
}

// Resource returns what this process calls itself in every signal.
func Resource() (*resource.Resource, error) {
	about, err := resource.Merge(
		resource.NewSchemaless(semconv.ServiceName("pullgate"), semconv.ServiceVersion(version.String())),
		resource.Environment(),
	)
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// Wanted reports whether the environment names a receiver for a signal: TRACES,
// METRICS or LOGS. The specification's default, a collector on this machine, is
// not assumed.
func Wanted(signal string) bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false
	}

	switch os.Getenv("OTEL_" + signal + "_EXPORTER") {
	case "none":
		return false
	case "":
		return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
	}
	return true
}

// Stop sends what is still to be sent, within flushTime.
func (t *SDK) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()

	var failed error
	for _, c := range t.close {
		failed = errors.Join(failed, c(ctx))
	}
	if failed != nil {
		return fmt.Errorf("flush telemetry: %w", failed)
	}
	return nil
}
