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
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// telemetry is the OpenTelemetry SDK as this program uses it: metrics for
// /metrics always, spans over OTLP when an OTEL_EXPORTER_OTLP_* endpoint is set.
type telemetry struct {
	tracer  trace.TracerProvider
	meter   metric.MeterProvider
	metrics http.Handler
	close   []func(context.Context) error
}

func startTelemetry(ctx context.Context) (*telemetry, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("start metrics: %w", err)
	}
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	t := &telemetry{meter: meter, metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), close: []func(context.Context) error{meter.Shutdown}}
	var options []sdktrace.TracerProviderOption
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")+os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		spans, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("start tracing: %w", err)
		}
		options = append(options, sdktrace.WithBatcher(spans))
	} else {
		options = append(options, sdktrace.WithSampler(sdktrace.NeverSample()))
	}
	tracer := sdktrace.NewTracerProvider(options...)
	t.tracer = tracer
	t.close = append(t.close, tracer.Shutdown)
	return t, nil
}

// stop flushes what is still to be sent, for five seconds at most.
func (t *telemetry) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var failed error
	for _, c := range t.close {
		failed = errors.Join(failed, c(ctx))
	}
	return failed
}
