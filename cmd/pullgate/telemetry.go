package main

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
)

// telemetry is the OpenTelemetry SDK as this program uses it: metrics for
// /metrics always; spans, and metrics pushed in addition, as the OTEL_*
// variables say. Without any of them nothing leaves the process.
type telemetry struct {
	tracer  trace.TracerProvider
	meter   metric.MeterProvider
	metrics http.Handler
	close   []func(context.Context) error
}

// noTelemetry is for commands that measure nothing.
func noTelemetry() *telemetry {
	return &telemetry{
		tracer:  tracenoop.NewTracerProvider(),
		meter:   metricnoop.NewMeterProvider(),
		metrics: http.NotFoundHandler(),
	}
}

func startTelemetry(ctx context.Context) (*telemetry, error) {
	about, err := resourceOf()
	if err != nil {
		return nil, err
	}
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
		return nil, fmt.Errorf("start metrics: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(about), sdkmetric.WithReader(exporter)}
	if wanted("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, fmt.Errorf("start pushing metrics: %w", err)
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	meter := sdkmetric.NewMeterProvider(options...)
	t := &telemetry{
		tracer:  tracenoop.NewTracerProvider(),
		meter:   meter,
		close:   []func(context.Context) error{meter.Shutdown},
		metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}),
	}
	if wanted("TRACES") {
		spans, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("start tracing: %w", err)
		}
		tracer := sdktrace.NewTracerProvider(
			sdktrace.WithResource(about),
			sdktrace.WithBatcher(spans),
		) // OTEL_TRACES_SAMPLER is read by the SDK
		t.tracer = tracer
		t.close = append(t.close, tracer.Shutdown)
	}
	return t, nil
}

// resourceOf is what this process calls itself in every signal.
func resourceOf() (*resource.Resource, error) {
	about, err := resource.Merge(
		resource.NewSchemaless(semconv.ServiceName("pullgate"), semconv.ServiceVersion(version())),
		resource.Environment(),
	)
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// wanted reports whether the environment names somebody to send a signal to.
// The specification's default, a collector on this machine, is not assumed.
func wanted(signal string) bool {
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

// stop flushes what is still to be sent, for five seconds at most.
func (t *telemetry) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
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
