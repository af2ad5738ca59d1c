package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/reason"
)

// someDecision has every field set.
func someDecision(n int) proxy.Decision {
	return proxy.Decision{
		Time:       time.Date(2026, 11, 24, 10, 0, n%60, 0, time.UTC),
		ID:         fmt.Sprintf("%026d", n),
		Client:     "10.0.0.7",
		Agent:      "containerd/2.1.4",
		Method:     "GET",
		Kind:       "manifest",
		Image:      "ghcr.io/acme/app",
		Reference:  "v1",
		Digest:     "sha256:" + strings.Repeat("a", 64),
		Parent:     "sha256:" + strings.Repeat("b", 64),
		Outcome:    "denied",
		Status:     403,
		Policy:     "prod",
		PolicyHash: strings.Repeat("c", 64),
		Findings:   []verify.Finding{{Authority: "release", Passed: true, Detail: "no signature found"}},
		Reasons:    []verify.Reason{{Code: "no_signature", Authority: "release", Text: "no signature found"}},
		Signer:     "key release",
		Unknown:    true,
		Error:      "none",
		Cache:      true,
		Took:       1.5,
		Upstream:   1.25,
	}
}

// dropCounts reads the counter of dropped decisions, by reason.
func dropCounts(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != "pullgate.decisions.dropped" {
				continue
			}
			for _, point := range m.Data.(metricdata.Sum[int64]).DataPoints {
				reason, _ := point.Attributes.Value("reason")
				counts[reason.AsString()] = point.Value
			}
		}
	}
	return counts
}

func decisionsTo(t *testing.T, sink decisionSink) (*decisions, *sdkmetric.ManualReader) {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	d, err := newDecisions(
		sink,
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
		slog.New(slog.DiscardHandler),
	)
	if err != nil {
		t.Fatal(err)
	}
	return d, reader
}

// stuckSink takes nothing until it is released, then everything or nothing.
type stuckSink struct {
	release chan struct{}
	fail    error

	mu  sync.Mutex
	ids []string
}

func (s *stuckSink) write(batch []recorded) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return len(batch), s.fail
	}
	for _, one := range batch {
		s.ids = append(s.ids, one.ID)
	}
	return 0, nil
}

func (s *stuckSink) newest() iter.Seq2[[]byte, error] { return func(func([]byte, error) bool) {} }
func (s *stuckSink) close() error                     { return nil }

// A disk that hangs costs decisions, which are counted, and no request a moment.
func TestDecisionsNeverWait(t *testing.T) {
	t.Parallel()
	sink := &stuckSink{release: make(chan struct{})}
	d, metrics := decisionsTo(t, sink)
	const many = 5 * maxDecisionsQueued
	began := time.Now()
	for n := range many {
		d.take(someDecision(n))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("taking %d decisions took %s", many, took)
	}
	if dropped := dropCounts(t, metrics)["queue_full"]; dropped < many-2*maxDecisionsQueued-1 || dropped >= many {
		t.Errorf("%d of %d were dropped while the sink hung", dropped, many)
	}
	close(sink.release)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	counts := dropCounts(t, metrics)
	if got := int64(len(sink.ids)) + counts["queue_full"]; got != many || counts["write_failed"] != 0 {
		t.Errorf("written and dropped are %d of %d; %v", got, many, counts)
	}
	if !slices.IsSorted(sink.ids) {
		t.Error("the order is lost")
	}
}

// What the disk does not take is counted.
func TestDecisionsCountFailures(t *testing.T) {
	t.Parallel()
	sink := &stuckSink{release: make(chan struct{}), fail: errors.New("no space left on device")}
	close(sink.release)
	d, metrics := decisionsTo(t, sink)
	for n := range 100 {
		d.take(someDecision(n))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if counts := dropCounts(t, metrics); counts["write_failed"] != 100 || counts["queue_full"] != 0 {
		t.Errorf("counted %v", counts)
	}
	d.take(someDecision(0)) // a pull that outlived the drain
	if counts := dropCounts(t, metrics); counts["queue_full"] != 1 {
		t.Errorf("after the close: %v", counts)
	}
}

// fullWriter takes some bytes and then no more, as a full disk does.
type fullWriter struct {
	bytes.Buffer
	left int
}

func (f *fullWriter) Write(b []byte) (int, error) {
	n, _ := f.Buffer.Write(b[:min(len(b), f.left)])
	f.left -= n
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func TestStreamSaysWhatItLost(t *testing.T) {
	t.Parallel()
	w := &fullWriter{left: 2500}
	s := &decisionStream{w: w}
	lost, err := s.write(encoded(10))
	if whole := strings.Count(w.String(), "\n"); err == nil || lost != 10-whole || whole == 0 {
		t.Errorf("%d lost, %v, with %d whole lines written", lost, err, whole)
	}
	found, more, err := (decisionQuery{limit: 4}).find(t.Context(), s.newest())
	if err != nil || !more || len(found) != 4 || found[0].ID != someDecision(9).ID {
		t.Errorf("memory has %d, %v, %v", len(found), more, err)
	}
}

// encoded are n decisions as a sink gets them.
func encoded(n int) []recorded {
	var list []recorded
	for i := range n {
		d := someDecision(i)
		list = append(list, recorded{d, appendDecision(nil, &d)})
	}
	return list
}

// Memory holds a bounded number of lines.
func TestRecentDecisionsAreBounded(t *testing.T) {
	t.Parallel()
	s := &decisionStream{w: io.Discard}
	batch := encoded(1000)
	for range 50 {
		if lost, err := s.write(batch); lost != 0 || err != nil {
			t.Fatal(lost, err)
		}
	}
	if s.bytes > maxRecentBytes || s.bytes < maxRecentBytes/2 {
		t.Errorf("%d bytes are kept", s.bytes)
	}
}

// The file is bounded, private, read newest first, and survives being moved,
// a torn line and a restart.
func TestDecisionFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "decisions.jsonl")
	batch := encoded(100)
	one := int64(len(batch[0].line))
	f := &decisionFile{path: path, maxBytes: 30*one + 5, keep: 2}
	if lost, err := f.write(batch); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	var all []string
	for line, err := range f.newest() {
		d, ok := decodeDecision(line)
		if err != nil || !ok {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, d.ID)
	}
	// 100 lines by 30: 10 in the file, 30 in each of the two older ones.
	if len(all) != 70 || all[0] != someDecision(99).ID || all[69] != someDecision(30).ID {
		t.Errorf("%d lines, from %s to %s", len(all), all[0], all[len(all)-1])
	}
	for n, size := range []int64{10 * one, 30 * one, 30 * one} {
		info, err := os.Stat(rotated(path, n))
		if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", rotated(path, n), info, err)
		}
	}
	if _, err := os.Stat(rotated(path, 3)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a third older file: %v", err)
	}

	if err := os.Rename(path, path+".taken"); err != nil { // as logrotate does
		t.Fatal(err)
	}
	if lost, err := f.write(batch[:1]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	if got := linesOf(t, path); len(got) != 1 {
		t.Errorf("after the file was moved there are %d lines", len(got))
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	torn, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := torn.WriteString(`{"id":"half a li`); err != nil {
		t.Fatal(err)
	}
	if err := torn.Close(); err != nil {
		t.Fatal(err)
	}
	f = &decisionFile{path: path, maxBytes: 1 << 20, keep: 2} // a new process
	if lost, err := f.write(batch[1:2]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	found, _, err := (decisionQuery{limit: 2}).find(t.Context(), newestLines([]string{path}))
	if err != nil || len(found) != 2 || found[0].ID != someDecision(1).ID || found[1].ID != someDecision(0).ID {
		t.Errorf("found %v, %v", found, err)
	}
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// A file that cannot be written loses what it was given, says so, and takes
// what comes later; test/e2e fills a real disk.
func TestDecisionFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "decisions.jsonl")
	batch := encoded(3)
	f := &decisionFile{path: path, maxBytes: 1 << 20, keep: 1}
	if lost, err := f.write(batch[:1]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.f.Close()
	f.f = readOnly
	if lost, err := f.write(batch[1:2]); lost != 1 || err == nil {
		t.Errorf("lost %d, %v", lost, err)
	}
	if err := f.shut(); err != nil {
		t.Fatal(err)
	}
	if lost, err := f.write(batch[2:]); lost != 0 || err != nil {
		t.Fatal(lost, err)
	}
	if got := linesOf(t, path); len(got) != 2 {
		t.Errorf("%d lines", len(got))
	}
	pipe := &decisionFile{path: "/dev/null", maxBytes: 1 << 20, keep: 1}
	if lost, err := pipe.write(batch); lost != 3 || err == nil || !strings.Contains(err.Error(), "stdout") {
		t.Errorf("no regular file: lost %d, %v", lost, err)
	}
	below := &decisionFile{path: filepath.Join(path, "decisions.jsonl"), maxBytes: 1 << 20, keep: 1}
	if lost, err := below.write(batch); lost != 3 || err == nil {
		t.Errorf("a folder that cannot be: lost %d, %v", lost, err)
	}
}

// Reading backwards finds the lines that reading forwards finds, wherever the
// blocks end.
func TestBackward(t *testing.T) {
	t.Parallel()
	for _, longest := range []int{3, 1000, maxDecisionBytes - 1} {
		var lines []string
		size := 0
		for n := 0; size < 3*backwardBlock+17; n++ {
			line := strings.Repeat(string(rune('a'+n%26)), 1+(n*7919)%longest)
			lines = append(lines, line)
			size += len(line) + 1
		}
		for _, end := range []string{"\n", ""} {
			text := strings.Join(lines, "\n") + end
			var got []string
			more, err := backward(strings.NewReader(text), int64(len(text)), func(line []byte, _ error) bool {
				got = append(got, string(line))
				return true
			})
			slices.Reverse(got)
			if err != nil || !more || !slices.Equal(got, lines) {
				t.Errorf("longest %d, end %q: %d lines of %d, %v", longest, end, len(got), len(lines), err)
			}
		}
	}
}

// A line without end costs no memory, and hides none of its neighbours.
func TestBackwardEndlessLine(t *testing.T) {
	t.Parallel()
	text := "first\n" + strings.Repeat("x", 5*backwardBlock) + "\nlast\n"
	var got []string
	if _, err := backward(strings.NewReader(text), int64(len(text)), func(line []byte, _ error) bool {
		got = append(got, string(line))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"last", "", "first"}) {
		t.Errorf("%.100q", got)
	}
}

// Nothing that a client or a registry says forges a line, moves a terminal or
// takes more than its line.
func TestHostileTextInDecisions(t *testing.T) {
	t.Parallel()
	evil := "x\n{\"id\":\"forged\"}\r\x1b[2J\x07\u009b31m\u202egnp.exe\x7f\xff\u2028 é"
	huge := strings.Repeat(evil, 1<<9)
	for _, text := range []string{evil, huge} {
		d := proxy.Decision{
			ID:         text,
			Client:     text,
			Agent:      text,
			Method:     text,
			Kind:       text,
			Image:      text,
			Reference:  text,
			Digest:     text,
			Parent:     text,
			Outcome:    text,
			Policy:     text,
			PolicyHash: text,
			Signer:     text,
			Error:      text,
		}
		for range 100 {
			d.Findings = append(d.Findings, verify.Finding{Authority: text, Detail: text})
			d.Reasons = append(d.Reasons, verify.Reason{Code: reason.Code(text), Authority: text, Text: text})
		}
		before := d.Reasons[0].Text
		clean := harmless(d)
		if d.Reasons[0].Text != before {
			t.Fatal("what requests share was changed")
		}
		line := appendDecision(nil, &clean)
		if bytes.Count(line, []byte("\n")) != 1 || !bytes.HasSuffix(line, []byte("\n")) || !json.Valid(line) {
			t.Errorf("not one line of JSON: %.200q", line)
		}
		if len(line) > maxDecisionBytes {
			t.Errorf("%d bytes", len(line))
		}
		for _, r := range string(line) {
			if r != '\n' && show.Printable(string(r)) != string(r) {
				t.Fatalf("%U is in the line", r)
			}
		}
		var out bytes.Buffer
		_ = explain([]proxy.Decision{harmless(d), harmless(d)}, "x", false, &out)
		for _, r := range out.String() {
			if r != '\n' && show.Printable(string(r)) != string(r) {
				t.Fatalf("%U is printed", r)
			}
		}
	}
	if got := show.Printable("plain ASCII, and é"); got != "plain ASCII, and é" {
		t.Errorf("%q", got)
	}
}

// A line is what encoding/json would have written of the same struct.
func TestDecisionLine(t *testing.T) {
	t.Parallel()
	whole := someDecision(1)
	whole.Findings = append(whole.Findings, verify.Finding{
		Authority: `a "quoted" \ name`,
		Detail:    "<é>",
	}, verify.Finding{})
	whole.Reasons = append(whole.Reasons, verify.Reason{Text: `\"`}, verify.Reason{Authority: "b"})
	for _, d := range []proxy.Decision{
		whole,
		{Took: 0.001, Upstream: 123456.789},
		{Time: time.Now().UTC(), Findings: []verify.Finding{{}}},
	} {
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(d); err != nil {
			t.Fatal(err)
		}
		if got := appendDecision(nil, &d); string(got) != want.String() {
			t.Errorf("the line is\n%snot\n%s", got, want.String())
		}
	}
}

// The fields in docs/decisions.md are those of a line.
func TestDecisionsAreDocumented(t *testing.T) {
	t.Parallel()
	d := someDecision(1)
	for v, i := reflect.ValueOf(d), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("%s is not set by someDecision", v.Type().Field(i).Name)
		}
	}
	var has map[string]any
	if err := json.Unmarshal(appendDecision(nil, &d), &has); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"findings", "reasons"} {
		for key := range has[list].([]any)[0].(map[string]any) {
			has[list+"[]."+key] = true
		}
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "decisions.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{"text": "string", "number": "float64", "true or false": "bool", "list": "[]interface {}"}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-zA-Z.\\[\\]]+)` \\| ([a-z ]+?)(?:, .*?)? \\|").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
		value, ok := has[m[1]]
		switch {
		case !ok:
			t.Errorf("%s is documented and not in a line", m[1])
		case !strings.Contains(m[1], "[].") && fmt.Sprintf("%T", value) != kinds[m[2]]:
			t.Errorf("%s is documented as %s and is %T", m[1], m[2], value)
		}
	}
	for key := range has {
		if !listed[key] {
			t.Errorf("%s is not documented", key)
		}
	}
}

func TestDecisionQuery(t *testing.T) {
	t.Parallel()
	s := &decisionStream{w: io.Discard}
	batch := encoded(3)
	other := someDecision(3)
	other.Image, other.Outcome, other.Reference = "ghcr.io/acme/other", "allowed", other.Digest
	foreign := recorded{line: []byte("{\"time\":\"not ours\"}\n")}
	if _, err := s.write(append(batch, recorded{other, appendDecision(nil, &other)}, foreign)); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		id, image, outcome string
		limit, want        int
	}{
		{want: 4},
		{limit: 2, want: 2},
		{image: "ghcr.io/acme/app", want: 3},
		{image: "ghcr.io/acme/app:v1", want: 3},
		{image: "ghcr.io/acme/app:v2"},
		{image: "ghcr.io/acme/app@" + other.Digest, want: 3},
		{image: "ghcr.io/acme/other@" + other.Digest, want: 1},
		{outcome: "allowed", want: 1},
		{outcome: "error"},
		{image: "ghcr.io/acme/app", outcome: "allowed"},
		{image: "acme/app"},
		{id: strings.Repeat("A", 26)},
	} {
		q, err := newDecisionQuery(row.id, row.image, row.outcome, row.limit)
		if err != nil {
			t.Errorf("%+v: %v", row, err)
			continue
		}
		found, _, err := q.find(t.Context(), s.newest())
		if err != nil || len(found) != row.want {
			t.Errorf("%+v: found %d, %v", row, len(found), err)
		}
	}
	for _, row := range []struct {
		id, image, outcome string
		limit              int
	}{
		{id: "../x"},
		{id: "\x1b"},
		{image: "a b"},
		{image: "\x1b[2J"},
		{image: strings.Repeat("a", 2000)},
		{outcome: "fine"},
		{limit: -1},
		{limit: decisionsMost + 1},
	} {
		if _, err := newDecisionQuery(
			row.id,
			row.image,
			row.outcome,
			row.limit,
		); err == nil ||
			show.Printable(err.Error()) != err.Error() {
			t.Errorf("%+v is taken, or its error is not printable: %v", row, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, more, err := (decisionQuery{limit: 1}).find(ended, s.newest()); err == nil || !more {
		t.Errorf("a search whose client left: %v, %v", more, err)
	}
}

// BenchmarkDecision is what one decision costs the request, and what it costs
// the goroutine that writes.
func BenchmarkDecision(b *testing.B) {
	d := someDecision(1)
	d.Findings, d.Reasons = d.Findings[:1:1], nil
	b.Run("take", func(b *testing.B) {
		sink := &stuckSink{release: make(chan struct{})}
		close(sink.release)
		all, err := newDecisions(sink, sdkmetric.NewMeterProvider(), slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			all.take(d)
		}
		if err := all.Close(); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("write", func(b *testing.B) {
		f := &decisionFile{path: filepath.Join(b.TempDir(), "d.jsonl"), maxBytes: 8 << 20, keep: 1}
		all := &decisions{sink: f, log: slog.New(slog.DiscardHandler)}
		batch := slices.Repeat([]proxy.Decision{d}, 400)
		b.ReportAllocs()
		for b.Loop() {
			all.write(batch)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/decision")
	})
}
