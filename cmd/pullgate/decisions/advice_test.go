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
