package decisions

import (
	"strings"
	"testing"
)

// TestUnknownUpstreamAdvice: a record without an image is named by its path, and
// its advice is about the registry.
func TestUnknownUpstreamAdvice(t *testing.T) {
	t.Parallel()
	r := Record{Kind: "unknown", Path: "/v2/other.example/app/manifests/v1", Outcome: OutcomeError, Status: 404}
	if r.Name() != r.Path {
		t.Errorf("its name is %q", r.Name())
	}
	if advice := r.Advice(); len(advice) != 1 || !strings.Contains(advice[0], "under upstreams") {
		t.Errorf("advice %q", advice)
	}
}

// TestRefused: a part of nothing known is refused, whichever version recorded it.
func TestRefused(t *testing.T) {
	t.Parallel()
	for outcome, want := range map[string]bool{
		"denied":            true,
		"unknown":           true,
		"allowed":           false,
		"warned":            false,
		"warned_unverified": false,
		"error":             false,
	} {
		if r := (Record{Outcome: outcome, Unknown: true}); r.Refused() != want {
			t.Errorf("%s: %v", outcome, r.Refused())
		}
	}
}
