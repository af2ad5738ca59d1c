package main

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
)

// keptSink keeps what it is given.
type keptSink struct{ all []recorded }

func (s *keptSink) write(batch []recorded) (int, error) {
	for _, one := range batch {
		s.all = append(s.all, recorded{one.Decision, bytes.Clone(one.line)})
	}
	return 0, nil
}

func (s *keptSink) newest() iter.Seq2[[]byte, error] { return func(func([]byte, error) bool) {} }
func (s *keptSink) close() error                     { return nil }

// TestHostileTextAtTheSink: what is taken from a request reaches a sink
// printable, as a line and as a decision, and what requests share is left as it
// was.
func TestHostileTextAtTheSink(t *testing.T) {
	t.Parallel()
	const evil = "x\n{\"id\":\"forged\"}\r\x1b[2J\x07\u009b31m\u202egnp.exe\x7f\xff\u2028 é"
	d := proxy.Decision{
		Findings: []verify.Finding{{Authority: evil, Detail: evil}},
		Reasons:  []verify.Reason{{Code: evil, Authority: evil, Text: evil}},
	}
	for _, text := range textsOf(&d) {
		*text = evil
	}
	sink := &keptSink{}
	taking, _ := decisionsTo(t, sink)
	taking.take(d)
	if err := taking.Close(); err != nil {
		t.Fatal(err)
	}
	if len(sink.all) != 1 {
		t.Fatalf("%d decisions reached the sink, want 1", len(sink.all))
	}
	got := sink.all[0]
	t.Run("line", func(t *testing.T) {
		line, whole := strings.CutSuffix(string(got.line), "\n")
		if !whole || !json.Valid([]byte(line)) || show.Printable(line) != line {
			t.Errorf("not one printable line of JSON: %q", got.line)
		}
	})
	t.Run("decision", func(t *testing.T) {
		finding, reason := got.Findings[0], got.Reasons[0]
		texts := []string{finding.Authority, finding.Detail, string(reason.Code), reason.Authority, reason.Text}
		for _, text := range textsOf(&got.Decision) {
			texts = append(texts, *text)
		}
		for _, text := range texts {
			if text == "" || show.Printable(text) != text {
				t.Errorf("%q reached the sink", text)
			}
		}
	})
	t.Run("shared", func(t *testing.T) {
		if d.Findings[0].Detail != evil || d.Reasons[0].Text != evil {
			t.Errorf("what requests share was changed: %q, %q", d.Findings[0].Detail, d.Reasons[0].Text)
		}
	})
}
