package trust

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/tufrepo"
)

// stalled is a key service that takes questions and never answers.
func stalled(t *testing.T) {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-q.Context().Done():
		case <-over:
		}
	}))
	t.Cleanup(func() { close(over); server.Close() })
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "token")
	t.Setenv("VAULT_MAX_RETRIES", "0")
}

// TestStallingKeyService: the services' own clients ignore deadlines, or have none.
func TestStallingKeyService(t *testing.T) {
	stalled(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := fetchKey(ctx, "hashivault://app"); err == nil || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// TestStallingSource: at the start, each root and key comes when its own source
// answers.
func TestStallingSource(t *testing.T) {
	stalled(t)
	r := tufrepo.New(t, publicGood)
	dir := t.TempDir()
	set := policies(t, r)
	k, _ := keeper(t, dir)
	fingerprint(t, k, set)
	k.mu.Lock()
	for _, key := range []string{"a", "b", "c"} {
		k.source(keySource("hashivault://"+key), nil) // their names come first
	}
	k.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	filled := make(chan error, 1)
	go func() { filled <- k.Fill(ctx) }()
	for end := time.Now().Add(time.Minute); fingerprint(t, k, set) == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Error("the root was not asked for")
			break
		}
	}
	cancel()
	<-filled
}

// TestRepeatedAsk: a storm of signals to the gate is no storm of requests to its
// mirrors.
func TestRepeatedAsk(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set := policies(t, r)
	k, _ := keeper(t, "")
	fingerprint(t, k, set)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	<-k.Changed()
	once := r.Requests.Load()
	for begun := time.Now(); time.Since(begun) < time.Second; time.Sleep(time.Millisecond) {
		k.Ask()
	}
	if got := r.Requests.Load(); got > 2*once {
		t.Errorf("%d requests in a second; one refresh takes %d", got, once)
	}
	// What was asked for is done all the same, a moment later.
	r.Publish(t, 2, another(t), time.Now().Add(time.Hour))
	k.Ask()
	select {
	case <-k.Changed():
	case <-time.After(askApart + 10*time.Second):
		t.Error("it was not asked at all")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestChangedFolder: a folder's change makes the configuration load again, and that
// must not wait for the refresh, half a day later.
func TestChangedFolder(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	set := policiesFrom(t, r, "directory: "+r.Dir)
	k, _ := keeper(t, t.TempDir())
	fingerprint(t, k, set)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	<-k.Changed()
	first := fingerprint(t, k, set)
	r.Publish(t, 2, another(t), time.Now().Add(time.Hour))
	fingerprint(t, k, set) // as a reload does
	select {
	case <-k.Changed():
	case <-time.After(10 * time.Second):
		t.Error("the new root was not read")
	}
	if fingerprint(t, k, set) == first {
		t.Error("the new root is not in use")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestShorterRefresh: a source with another interval is the same source.
func TestShorterRefresh(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	k, _ := keeper(t, "")
	fingerprint(t, k, policies(t, r))
	if err := k.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	fingerprint(t, k, policiesFrom(t, r, "refresh: 5m, mirror: "+r.URL))
	for _, s := range k.sources {
		if left := time.Until(s.due); s.every != 5*time.Minute || left > 5*time.Minute {
			t.Errorf("again in %v, every %v", left, s.every)
		}
	}
}

// TestRollbackAcrossStart: what the mirror said before is remembered on disk.
func TestRollbackAcrossStart(t *testing.T) {
	t.Parallel()
	r := tufrepo.New(t, publicGood)
	r.Publish(t, 3, another(t), time.Now().Add(time.Hour))
	set, dir := policies(t, r), t.TempDir()
	k, _ := keeper(t, dir)
	fingerprint(t, k, set)
	if err := k.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	was := fingerprint(t, k, set)
	r.Publish(t, 2, publicGood, time.Now().Add(time.Hour))
	next, _ := keeper(t, dir)
	if got := fingerprint(t, next, set); got != was {
		t.Fatalf("starts with %q, not %q", got, was)
	}
	if err := again(t, next); err == nil || fingerprint(t, next, set) != was {
		t.Errorf("rolled back: %v", err)
	}
}
