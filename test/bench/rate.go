package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// target is one side of a comparison of request rates.
type target struct {
	name string
	url  string
	p    *process // that answers
}

// measured is what one target did, round by round.
type measured struct {
	rate []float64 // answers per second
	cost []float64 // processor time per answer, in µs
}

// rates asks each target in turns.
func (l *lab) rates(ctx context.Context, targets []target) ([]measured, error) {
	all := make([]measured, len(targets))
	for range l.rounds {
		for i, t := range targets {
			before, err := t.p.cpu()
			if err != nil {
				return nil, err
			}
			n, err := l.rate(ctx, t.url)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			after, err := t.p.cpu()
			if err != nil {
				return nil, err
			}
			t.p.forgetLog()
			all[i].rate = append(all[i].rate, n)
			all[i].cost = append(all[i].cost, (after-before)/(n*l.span.Seconds())*1e6)
		}
	}
	return all, nil
}

func (l *lab) loader() string {
	if _, err := exec.LookPath("wrk"); err == nil {
		return fmt.Sprintf("wrk, %d connections", connections)
	}
	return fmt.Sprintf("a load generator in Go, %d connections (wrk was not in PATH)", connections)
}

var (
	wrkRate = regexp.MustCompile(`(?m)^Requests/sec:\s+([0-9.]+)`)
	wrkBad  = regexp.MustCompile(`(?m)^\s*(Non-2xx or 3xx responses|Socket errors):.*`)
)

// rate is how many answers of status 200 per second a URL gives. Any other
// answer is an error: what is fast must also be right.
func (l *lab) rate(ctx context.Context, url string) (float64, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		me, err := os.Executable()
		if err != nil {
			return 0, err
		}
		out, err := exec.CommandContext(ctx, me, "child", "load", url, l.span.String()).Output()
		if err != nil {
			return 0, fmt.Errorf("load generator: %w", err)
		}
		var n float64
		var bad int
		if _, err := fmt.Sscan(string(out), &n, &bad); err != nil || bad > 0 {
			return 0, fmt.Errorf("load generator: %d answers were no 200 (%w)", bad, err)
		}
		return n, nil
	}
	threads := strconv.Itoa(min(2, runtime.NumCPU()))
	out, err := exec.CommandContext(
		ctx,
		wrk,
		"-t"+threads,
		"-c"+strconv.Itoa(connections),
		"-d"+strconv.Itoa(int(l.span.Seconds()))+"s",
		url,
	).Output()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w", err)
	}
	if bad := wrkBad.Find(out); bad != nil {
		return 0, fmt.Errorf("wrk: %s", strings.TrimSpace(string(bad)))
	}
	found := wrkRate.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("wrk said no rate:\n%s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// ratios divides round by round, so that what slowed one round slowed both of
// its sides.
func ratios(a, b []float64) []float64 {
	var list []float64
	for i := range a {
		list = append(list, a[i]/b[i])
	}
	return list
}

// ratio is the median of the rounds' ratios, and their spread.
func ratio(a, b []float64) (middle, spread string) {
	r := ratios(a, b)
	return number(median(r)), "ratios " + between(r)
}

// between is the smallest and the largest.
func between(list []float64) string {
	return number(slices.Min(list)) + " to " + number(slices.Max(list))
}

// number has three digits that mean something.
func number(f float64) string {
	switch {
	case f >= 1000:
		s := strconv.FormatFloat(f, 'f', 0, 64)
		for i := len(s) - 3; i > 0; i -= 3 {
			s = s[:i] + "," + s[i:]
		}
		return s
	case f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	case f >= 0.1:
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
	return strconv.FormatFloat(f, 'g', 2, 64)
}
