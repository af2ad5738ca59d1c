package decisions

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

const recordLine = `{"time":"2026-01-01T00:00:00Z","id":"AAAAAAAAAAAAAAAAAAAAAAAAAA","client":"c","method":"GET",` +
	`"kind":"manifest","image":"r.example/a","reference":"v1","outcome":"OUTCOME","status":200}` + "\n"

// TestNewestUnreadable: an older decision is not shown as the newest where the
// newest cannot be read.
func TestNewestUnreadable(t *testing.T) {
	dir := t.TempDir()
	newest, older := filepath.Join(dir, "decisions.jsonl"), filepath.Join(dir, "decisions.1.jsonl")
	if err := os.Mkdir(newest, 0o700); err != nil { // as root, too, it cannot be read
		t.Fatal(err)
	}
	if err := os.WriteFile(older, []byte(strings.Replace(recordLine, "OUTCOME", "allowed", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	q := Query{Image: policy.Image{Repository: policy.Repository{Host: "r.example", Path: "a"}}, Limit: 20}
	if found, err := q.FindIn(t.Context(), []string{newest, older}); err == nil {
		t.Errorf("it says %q", found[0].Outcome)
	}
	if found, err := q.FindIn(t.Context(), []string{older, newest}); err != nil || len(found) != 1 {
		t.Errorf("an unreadable older file stops it: %v", err)
	}
}

// TestUnknownOutcome: a line with another outcome than the gate's is no record, and
// says of no image that it was admitted.
func TestUnknownOutcome(t *testing.T) {
	if d, ok := parseLine([]byte(strings.Replace(recordLine, "OUTCOME", "fine", 1))); ok {
		t.Errorf("it is read as %q", d.Outcome)
	}
	for _, outcome := range Outcomes() {
		if _, ok := parseLine([]byte(strings.Replace(recordLine, "OUTCOME", outcome, 1))); !ok {
			t.Errorf("%s is not read", outcome)
		}
	}
}

// TestSlowClient: a client that asks and does not take the answer keeps others from
// asking for no longer than sendTime.
func TestSlowClient(t *testing.T) {
	t.Parallel() // it waits for the deadline
	path := filepath.Join(t.TempDir(), "decisions.jsonl")
	long := strings.NewReplacer(
		"OUTCOME", "allowed",
		`"client":"c"`, `"client":"`+strings.Repeat("c", 40_000)+`"`,
	).Replace(recordLine)
	if err := os.WriteFile(path, []byte(strings.Repeat(long, 300)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &Recorder{
		sink:      &file{path: path, keep: 1},
		log:       slog.New(slog.DiscardHandler),
		searching: make(chan struct{}, 1),
	}
	server := httptest.NewServer(r)
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
	ctx, cancel := context.WithTimeout(t.Context(), sendTime+5*time.Second)
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
