package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// measure counts what the database is asked and how it answers.
type measure struct {
	errors   metric.Int64Counter
	lies     metric.Int64Counter
	duration metric.Float64Histogram
	up       atomic.Int64 // 1 when the last pulse went through
	gauges   metric.Registration

	operations [3]metric.MeasurementOption
}

func newMeasure(provider metric.MeterProvider, c *circuit) (*measure, error) {
	if provider == nil {
		provider = noop.NewMeterProvider()
	}
	meter := provider.Meter("github.com/pullgate/pullgate")

	m := &measure{}
	for _, o := range []operation{reading, writing, pulsing} {
		m.operations[o] = metric.WithAttributeSet(attribute.NewSet(attribute.String("operation", o.String())))
	}
	var err1, err2, err3, err4, err5, err6 error
	m.errors, err1 = meter.Int64Counter(
		"pullgate.database.errors",
		metric.WithDescription("Questions that the shared database did not answer, by operation: read, write, pulse."),
	)
	m.lies, err2 = meter.Int64Counter(
		"pullgate.database.unreadable",
		metric.WithDescription("Values in the shared database that no gate of this namespace has written."),
	)
	m.duration, err3 = meter.Float64Histogram(
		"pullgate.database.duration",
		metric.WithUnit("s"),
		metric.WithDescription("Time until the shared database answered, by operation."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1),
	)
	up, err4 := meter.Int64ObservableGauge(
		"pullgate.database.up",
		metric.WithDescription("1 while the shared database can be written."),
	)
	open, err5 := meter.Int64ObservableGauge(
		"pullgate.database.circuit.open",
		metric.WithDescription("1 while pulls do not wait for the shared database, by operation: read, write."),
	)
	m.gauges, err6 = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(up, m.up.Load())
		for _, of := range []operation{reading, writing} {
			var isOpen int64
			if c.isOpen(of) {
				isOpen = 1
			}
			o.ObserveInt64(open, isOpen, m.operations[of])
		}
		return nil
	}, up, open)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	m.lies.Add(context.Background(), 0) // so that its series begins before something is wrong
	return m, nil
}

// timed asks the database and measures how it answers.
func (m *measure) timed(ctx context.Context, o operation, ask func(context.Context) error) error {
	start := time.Now()
	err := ask(ctx)
	m.duration.Record(ctx, time.Since(start).Seconds(), m.operations[o])
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		m.errors.Add(ctx, 1, m.operations[o])
	}
	return err
}

func (m *measure) unreadable(ctx context.Context) { m.lies.Add(ctx, 1) }

// pulsed notes whether a pulse went through.
func (m *measure) pulsed(err error) {
	if err == nil {
		m.up.Store(1)
		return
	}
	m.up.Store(0)
}

func (m *measure) Close() error { return m.gauges.Unregister() }
