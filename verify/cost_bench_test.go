//go:build unix

package verify_test

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify"
)

// The benchmarks of this file hold their bounds themselves, as ratios between
// two things measured in one run: a slow machine is slow at both.

// cpu is what this process has used so far, user and system.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// coldPullsPerShare bounds what an attacker buys: the CPU that reading 4 MiB of
// hostile signatures may take, in ordinary cold pulls of an image with one
// signature. Between 25 and 65 were measured, on an idle machine and a busy one.
const coldPullsPerShare = 120

// BenchmarkHostileVerdict compares the CPU of one hostile verdict with that of
// ordinary cold pulls, the registry and HTTP on both ends included in both. It
// fails where the ratio is past coldPullsPerShare for each 4 MiB that the
// verdict may read. The CPU is the whole process's: it runs beside no other.
func BenchmarkHostileVerdict(b *testing.B) {
	for name, fill := range material {
		for _, c := range hostileCases {
			b.Run(name+", "+c.name, func(b *testing.B) {
				bench := newBench(b, func(l *verify.Limits) { l.VerdictBytes = c.verdict })
				ratio := coldPulls(b, bench, func() digest.Digest { return bench.hostile(fill, c.everywhere) })

				read := min(int64(c.candidates)*hostileBundle, share(c.verdict)) * int64(c.places)
				if most := float64(coldPullsPerShare*read) / (4 << 20); ratio > most {
					b.Fatalf("one hostile verdict costs the CPU of %.0f cold pulls, want at most %.0f", ratio, most)
				}
			})
		}
	}

	for _, size := range []int{100, 16 << 10} {
		b.Run(fmt.Sprintf("%d signatures over one payload of %d bytes", overPayload, size), func(b *testing.B) {
			bench := newBench(b, func(*verify.Limits) {})
			ratio := coldPulls(b, bench, func() digest.Digest { return bench.overOnePayload(size) })
			if ratio > coldPullsPerShare {
				b.Fatalf("it costs the CPU of %.0f cold pulls, want at most %d", ratio, coldPullsPerShare)
			}
		})
	}
}

// coldPulls is the CPU that a verdict about what push makes takes, in ordinary
// cold pulls.
func coldPulls(b *testing.B, bench *bench, push func() digest.Digest) float64 {
	b.Helper()
	const ordinary = 100 // cold pulls for each hostile one
	for _, d := range bench.good(20) {
		bench.pull(d, verify.Allowed)
	}

	var onHostile, onOrdinary time.Duration
	rounds := 0
	for b.Loop() {
		b.StopTimer()
		bad, images := push(), bench.good(ordinary)
		bench.reg.Forget()

		before := cpu(b)
		for _, d := range images {
			bench.pull(d, verify.Allowed)
		}
		onOrdinary += cpu(b) - before
		bench.reg.Forget()

		before = cpu(b)
		b.StartTimer()
		bench.pull(bad, verify.Denied)
		b.StopTimer()
		onHostile += cpu(b) - before

		rounds++
		b.StartTimer()
	}

	ratio := ordinary * float64(onHostile) / float64(onOrdinary)
	b.ReportMetric(ratio, "cold-pulls/op")
	b.ReportMetric(float64(onHostile.Milliseconds())/float64(rounds), "cpu-ms/op")
	return ratio
}

// BenchmarkGoodPullBesideHostile compares what good pulls take beside hostile
// verdicts, made one after the other, with what they take alone. It fails where
// the medians of every round are further apart than twice: other processes on
// the machine may spoil some.
func BenchmarkGoodPullBesideHostile(b *testing.B) {
	const most = 2
	bench := newBench(b, func(*verify.Limits) {})
	for _, d := range bench.good(20) {
		bench.pull(d, verify.Allowed)
	}

	pulls := func(images []digest.Digest) time.Duration {
		var times []time.Duration
		for _, d := range images {
			took, _ := bench.pull(d, verify.Allowed)
			times = append(times, took)
		}
		return median(times)
	}

	var ratios []float64
	for b.Loop() {
		b.StopTimer()
		first, second := bench.good(100), bench.good(100)
		var bad []digest.Digest
		for range 10 {
			bad = append(bad, bench.hostile(material["32 log entries"], false))
		}
		bench.reg.Forget()
		alone := pulls(first)

		stop := make(chan struct{})
		var ended sync.WaitGroup
		ended.Go(func() {
			for _, d := range bad {
				select {
				case <-stop:
					return
				default:
					bench.pull(d, verify.Denied)
				}
			}
		})
		b.StartTimer()
		beside := pulls(second)
		b.StopTimer()
		close(stop)
		ended.Wait()

		ratios = append(ratios, float64(beside)/float64(alone))
		b.StartTimer()
	}

	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "beside/alone")
	if ratios[0] > most {
		b.Fatalf("beside a hostile verdict a good pull takes %.1f times as long, want at most %d", ratios[0], most)
	}
}
