package replicas

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkColdPull pulls images that are new to everyone through a gate without a
// database and through one with it, in turns: what the database takes of a cold pull.
func BenchmarkColdPull(b *testing.B) {
	alone := startFleet(b, 1, "")
	shared := startFleet(b, 1, startDatabase(b).URL())
	pull := func(f *fleet) time.Duration {
		b.StopTimer()
		i := f.push(true)
		b.StartTimer()
		start := time.Now()
		for _, path := range i.paths() {
			if status, body := f.gates[0].get(path); status != 200 {
				b.Fatalf("%s: %d %s", path, status, body)
			}
		}
		return time.Since(start)
	}

	var without, with []time.Duration
	for b.Loop() {
		without = append(without, pull(alone))
		with = append(with, pull(shared))
	}
	slices.Sort(without)
	slices.Sort(with)
	b.ReportMetric(float64(without[len(without)/2].Microseconds()), "without-p50-µs")
	b.ReportMetric(float64(with[len(with)/2].Microseconds()), "with-p50-µs")
}
