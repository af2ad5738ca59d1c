package server

import (
	"context"
	"runtime"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

// measureBuild tells what runs here, whatever it is configured to do.
func measureBuild(provider metric.MeterProvider) error {
	build, err := provider.Meter("github.com/pullgate/pullgate").Int64Gauge(
		"pullgate.build.info",
		metric.WithDescription("1, with the version of this gate and of Go."),
	)
	if err != nil {
		return err
	}

	build.Record(context.Background(), 1, metric.WithAttributes(
		attribute.String("version", version.String()),
		attribute.String("goversion", runtime.Version()),
	))
	return nil
}

// certificateEnd is when the certificate in force ends, in Unix seconds; 0 without
// TLS.
func (r *reloader) certificateEnd() int64 {
	if c := r.cert.Load(); c != nil && c.Leaf != nil {
		return c.Leaf.NotAfter.Unix()
	}
	return 0
}
