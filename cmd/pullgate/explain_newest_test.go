package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/policy"
)

const decisionLine = `{"time":"2026-01-01T00:00:00Z","id":"AAAAAAAAAAAAAAAAAAAAAAAAAA","client":"c","method":"GET",` +
	`"kind":"manifest","image":"r.example/a","reference":"v1","outcome":"OUTCOME","status":200}` + "\n"

// TestNewestUnreadable: an older decision is not shown as the newest where the
// newest cannot be read.
func TestNewestUnreadable(t *testing.T) {
	dir := t.TempDir()
	newest, older := filepath.Join(dir, "decisions.jsonl"), filepath.Join(dir, "decisions.1.jsonl")
	if err := os.Mkdir(newest, 0o700); err != nil { // as root, too, it cannot be read
		t.Fatal(err)
	}
	if err := os.WriteFile(older, []byte(strings.Replace(decisionLine, "OUTCOME", "allowed", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	q := decisionQuery{image: policy.Image{Repository: policy.Repository{Host: "r.example", Path: "a"}}, limit: 20}
	if found, err := askFiles(t.Context(), q, []string{newest, older}); err == nil {
		t.Errorf("it says %q", found[0].Outcome)
	}
	if found, err := askFiles(t.Context(), q, []string{older, newest}); err != nil || len(found) != 1 {
		t.Errorf("what is older stops it: %v", err)
	}
}

// TestOutcomeThatIsNone: a line with another outcome than the gate's is no
// decision, and says of no image that it was admitted.
func TestOutcomeThatIsNone(t *testing.T) {
	if d, ok := decodeDecision([]byte(strings.Replace(decisionLine, "OUTCOME", "fine", 1))); ok {
		t.Errorf("it is read as %q", d.Outcome)
	}
	for _, outcome := range decisionOutcomes {
		if _, ok := decodeDecision([]byte(strings.Replace(decisionLine, "OUTCOME", outcome, 1))); !ok {
			t.Errorf("%s is not read", outcome)
		}
	}
}

// TestSlowReaderOfDecisions: whoever asks and does not take the answer keeps
// nobody else from asking for longer than decisionsSendTime.
func TestSlowReaderOfDecisions(t *testing.T) {
	t.Parallel() // it waits for the deadline
	file := filepath.Join(t.TempDir(), "decisions.jsonl")
	long := strings.Replace(
		strings.Replace(decisionLine, "OUTCOME", "allowed", 1),
		`"client":"c"`,
		`"client":"`+strings.Repeat("c", 40_000)+`"`,
		1,
	)
	if err := os.WriteFile(file, []byte(strings.Repeat(long, 300)), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &decisions{
		sink:    &decisionFile{path: file, keep: 1},
		log:     slog.New(slog.DiscardHandler),
		reading: make(chan struct{}, 1),
	}
	server := httptest.NewServer(d)
	defer server.Close()
	slow, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := slow.Write([]byte("GET /decisions?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Read(make([]byte, 1)); err != nil { // it is being answered
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), decisionsSendTime+5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/decisions?limit=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("another question is answered %s", resp.Status)
	}
}
