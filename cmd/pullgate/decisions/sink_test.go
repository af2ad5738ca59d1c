package decisions

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/reason"
)

// keepingSink keeps what it is given.
type keepingSink struct{ all []entry }

func (s *keepingSink) write(batch []entry) (int, error) {
	for _, e := range batch {
		s.all = append(s.all, entry{e.Record, bytes.Clone(e.line)})
	}
	return 0, nil
}

func (s *keepingSink) newest() iter.Seq2[[]byte, error] { return func(func([]byte, error) bool) {} }
func (s *keepingSink) close() error                     { return nil }

// evil is a text that would forge a line, and move a terminal.
const evil = "x\n{\"id\":\"forged\"}\r\x1b[2J\x07\u009b31m\u202egnp.exe\x7f\xff\u2028 é"

// evilDecision returns a decision whose every text is text, with n findings and
// reasons.
func evilDecision(text string, n int) proxy.Decision {
	d := proxy.Decision{
		ID:         text,
		Client:     text,
		ClientName: text,
		Agent:      text,
		Method:     text,
		Kind:       text,
		Image:      text,
		Reference:  text,
		Path:       text,
		Digest:     text,
		Parent:     text,
		Outcome:    text,
		Policy:     text,
		PolicyHash: text,
		Signer:     text,
		Error:      text,
	}
	for range n {
		d.Findings = append(d.Findings, verify.Finding{Authority: text, Detail: text})
		d.Reasons = append(d.Reasons, verify.Reason{Code: reason.Code(text), Authority: text, Text: text})
	}
	return d
}

// TestHostileTextAtTheSink: what is taken from a request reaches a sink printable,
// as a line and as a record, and what requests share is left as it was.
func TestHostileTextAtTheSink(t *testing.T) {
	t.Parallel()
	d := evilDecision(evil, 1)
	sink := &keepingSink{}
	recorder, _ := recorderTo(t, sink)
	recorder.Take(d)
	if err := recorder.Close(); err != nil {
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
		finding, why := got.Findings[0], got.Reasons[0]
		texts := []string{finding.Authority, finding.Detail, string(why.Code), why.Authority, why.Reason}
		for _, text := range got.texts() {
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
