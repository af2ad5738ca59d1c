package trust

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// measure creates the keeper's metrics.
func (k *Keeper) measure() error {
	meter := k.config.Meter.Meter("github.com/pullgate/pullgate/verify/trust")

	refreshes, err1 := meter.Int64Counter(
		"pullgate.trust.refreshes",
		metric.WithDescription(
			"Refreshes of trust roots and key-service keys, by result: unchanged, changed or failed.",
		),
	)
	age, err2 := meter.Float64ObservableGauge(
		"pullgate.trust.age",
		metric.WithUnit("s"),
		metric.WithDescription(
			"Time since a trust root or key was last confirmed by its source, by name; "+
				"-1 while it is not loaded at all.",
		),
	)
	gauges, err3 := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for name, seconds := range k.ages() {
			o.ObserveFloat64(age, seconds, metric.WithAttributes(attribute.String("name", name)))
		}
		return nil
	}, age)

	k.refreshes, k.gauges = refreshes, gauges
	return errors.Join(err1, err2, err3)
}

// ages are seconds since each source was confirmed, by name.
func (k *Keeper) ages() map[string]float64 {
	k.mu.Lock()
	defer k.mu.Unlock()

	ages := map[string]float64{}
	for _, s := range k.sources {
		switch {
		case !s.used:
		case s.good == nil:
			ages[s.root+s.key] = -1
		case s.at.IsZero(): // it came with the program, and its source has not confirmed it yet
			ages[s.root+s.key] = time.Since(built).Seconds()
		default:
			ages[s.root+s.key] = time.Since(s.at).Seconds()
		}
	}
	return ages
}

// built is when the roots that come with the program were confirmed.
var built = time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)
