package server

import (
	"crypto/tls"
	"errors"
	"runtime"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

// aboutGauges say what runs here, whatever it is configured to do.
type aboutGauges struct {
	build          metric.Int64ObservableGauge
	certificateEnd metric.Int64ObservableGauge
}

func newAboutGauges(meter metric.Meter) (g aboutGauges, err error) {
	var err1, err2 error
	g.build, err1 = meter.Int64ObservableGauge(
		"pullgate.build.info",
		metric.WithDescription("1, with the version of this gate and of Go."),
	)
	g.certificateEnd, err2 = meter.Int64ObservableGauge(
		"pullgate.certificate.end.timestamp",
		metric.WithUnit("s"),
		metric.WithDescription("When the certificate of the port for pulls ends; without one there is no such series."),
	)
	return g, errors.Join(err1, err2)
}

// observe tells of this build, and of the certificate if there is one.
func (g aboutGauges) observe(o metric.Observer, certificate *tls.Certificate) {
	o.ObserveInt64(g.build, 1, metric.WithAttributes(
		attribute.String("version", version.String()),
		attribute.String("goversion", runtime.Version()),
	))

	if certificate != nil && certificate.Leaf != nil {
		o.ObserveInt64(g.certificateEnd, certificate.Leaf.NotAfter.Unix())
	}
}
