// Command bench measures the gate against other programs, in one run on one
// machine, and prints a Markdown table. What counts are the ratios: everything
// that is compared is measured in turns, a few seconds each, so that a slow or
// busy machine slows both sides. No number is judged here, so a slow machine
// fails nothing.
//
//	go run ./test/bench [-only NAME,NAME] [-seconds N] [-rounds N] [-before FILE] [-write docs/performance.md]
//
// What is measured and how is written in docs/performance.md. Linux only: CPU
// time and memory are read from /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// measurement is one group of rows of the table.
type measurement struct {
	name, what string
	run        func(context.Context, *lab) error
}

var measurements = []measurement{
	{"warm", "manifest from memory, by digest and by tag, against a bare handler and distribution", measureWarm},
	{"policies", "policy matching and warm requests with 10 and with 10,000 policies", measurePolicies},
	{"allocs", "allocations of a warm request", measureAllocs},
	{"blob", "blob throughput and CPU, against httputil.ReverseProxy and nginx", measureBlob},
	{"memory", "memory with 2,000 slow blob streams", measureMemory},
	{"cold", "cold verified pull over 20 ms, against the same pull without the gate", measureCold},
	{"state", "memory and disk per image, and start-up time", measureState},
	{"database", "what PostgreSQL takes of a cold pull, and what images cost in it", measureDatabase},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if err := child(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench child:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	only := flag.String("only", "", "run only these measurements, comma-separated: "+names())
	seconds := flag.Int("seconds", 5, "how long one round of requests takes")
	rounds := flag.Int("rounds", 5, "rounds of each side, in turns; at least 3")
	write := flag.String("write", "", "put the table into this `FILE` too, between its <!-- table --> and <!-- end -->")
	before := flag.String("before", "", "compare warm and cold with an earlier pullgate too, whose binary is `FILE`")
	flag.Parse()
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	l, err := newLab(ctx, time.Duration(max(1, *seconds))*time.Second, max(3, *rounds), *before)
	if err != nil {
		return err
	}
	defer l.Close()
	var failed error
	for _, m := range chosen {
		fmt.Fprintf(os.Stderr, "%s: %s\n", m.name, m.what)
		if err := m.run(ctx, l); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.name, err))
			l.table.add(m.what, "not measured", "", "", "see the error this run printed")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	text := machine(l) + "\n\n" + l.table.String()
	fmt.Println(text)
	if *write != "" {
		failed = errors.Join(failed, replaceTable(*write, text))
	}
	return failed
}

func names() string {
	var list []string
	for _, m := range measurements {
		list = append(list, m.name)
	}
	return strings.Join(list, ", ")
}

func choose(only string) ([]measurement, error) {
	if only == "" {
		return measurements, nil
	}
	var chosen []measurement
	for name := range strings.SplitSeq(only, ",") {
		found := false
		for _, m := range measurements {
			if m.name == strings.TrimSpace(name) {
				chosen, found = append(chosen, m), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-only %q: there is %s", name, names())
		}
	}
	return chosen, nil
}

// table is the result as it is printed.
type table struct{ rows [][5]string }

func (t *table) add(what, gate, other, ratio, notes string) {
	t.rows = append(t.rows, [5]string{what, gate, other, ratio, notes})
	fmt.Fprintf(os.Stderr, "  %s: %s / %s = %s (%s)\n", what, gate, other, ratio, notes)
}

func (t *table) String() string {
	var b strings.Builder
	b.WriteString("| what | the gate | compared with | ratio | notes |\n|---|---|---|---|---|\n")
	for _, r := range t.rows {
		b.WriteString("| " + strings.Join(r[:], " | ") + " |\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

const (
	beginMark = "<!-- table -->"
	endMark   = "<!-- end -->"
)

// replaceTable puts text between the marks of a file.
func replaceTable(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	head, rest, ok := strings.Cut(string(old), beginMark)
	_, tail, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return fmt.Errorf("write the table: %s lacks %s or %s", file, beginMark, endMark)
	}
	return os.WriteFile(file, []byte(head+beginMark+"\n"+text+"\n"+endMark+tail), 0o644)
}

// machine says where and when the numbers were taken.
func machine(l *lab) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	load := "unknown"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(text), " ")
	}
	return fmt.Sprintf(
		"%s, %s, %d × %s, %s. Requests by %s. %d rounds of %s each; load average at the end %s.",
		time.Now().UTC().Format(
			time.DateOnly,
		),
		kernel(),
		runtime.NumCPU(),
		model,
		runtime.Version(),
		l.loader(),
		l.rounds,
		l.span,
		load,
	)
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(text))
}
