package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// measureDatabase reads what PostgreSQL costs from the benchmarks of the packages
// that use it. They start one of their own, on loopback and with its defaults.
func measureDatabase(ctx context.Context, l *lab) error {
	pull, err := l.benchmark(ctx, "./test/replicas", "ColdPull", "60x")
	if err != nil {
		return err
	}
	l.table.add(
		"cold pull with PostgreSQL, registry on loopback",
		number(pull["with-p50-µs"]/1000)+" ms",
		"the gate without it "+number(pull["without-p50-µs"]/1000)+" ms",
		number(pull["with-p50-µs"]/pull["without-p50-µs"]),
		"an index, two manifests and six blobs, one after the other: four reads and three writes",
	)

	images, err := l.benchmark(ctx, "./verify/facts/postgres", "Images", "3000x")
	if err != nil {
		return err
	}
	l.table.add(
		"PostgreSQL per remembered image",
		number(images["B/image"]/1024)+" KiB",
		"",
		"",
		number(images["rows/image"])+" rows; two platforms, ten blobs, one signature, indexes included",
	)
	l.table.add(
		"one manifest written to PostgreSQL",
		number(images["write-p50-µs"]/1000)+" ms",
		"parents of one part read "+number(images["read-p50-µs"]/1000)+" ms",
		number(images["write-p50-µs"]/images["read-p50-µs"]),
		fmt.Sprintf("medians; p99 %s and %s ms; before them %s other images",
			number(images["write-p99-µs"]/1000), number(images["read-p99-µs"]/1000),
			number(images["others"])),
	)
	return nil
}

// benchmark runs one benchmark of a package and returns its figures by their units.
func (l *lab) benchmark(ctx context.Context, pkg, name, times string) (map[string]float64, error) {
	args := []string{"test", "-timeout", "60m", "-run", "^$", "-bench", name, "-benchtime", times, pkg}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = l.module, append(os.Environ(), "PULLGATE_E2E=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w\n%s", name, pkg, err, out)
	}

	figures := map[string]float64{}
	for line := range bytes.Lines(out) {
		if !bytes.HasPrefix(line, []byte("Benchmark"+name)) {
			continue
		}
		fields := bytes.Fields(line)
		for i := 1; i < len(fields); i++ {
			if n, err := strconv.ParseFloat(string(fields[i-1]), 64); err == nil {
				figures[string(fields[i])] = n
			}
		}
	}
	if len(figures) == 0 {
		return nil, fmt.Errorf("go test -bench %s %s has no such benchmark:\n%s", name, pkg, out)
	}
	return figures, nil
}
