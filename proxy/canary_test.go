package proxy_test

import (
	"net/http"
	"testing"

	"github.com/pullgate/pullgate/policy"
)

// A doctor's question is counted by the tag that it made for it, so that nodes
// behind one address are told apart, and a node with several addresses is one.
func TestCanaryCount(t *testing.T) {
	t.Parallel()
	const own, others = policy.CanaryNonce + "one", policy.CanaryNonce + "two"
	r := newRig(t, func(o *options) { o.canary = policy.Repository{Host: "reg.example", Path: "canary"} })
	for _, step := range []struct{ method, tag, want string }{
		{http.MethodHead, own, "1"},
		{http.MethodGet, "v1", "1"}, // another node's runtime, behind the same address
		{http.MethodHead, others, "1"},
		{http.MethodGet, others, "2"},
		{http.MethodGet, "v1", "2"},
		{http.MethodHead, own, "2"},
		{http.MethodHead, others, "3"},
	} {
		g := r.do(step.method, manifests("canary", step.tag))
		if got := g.header.Get("Pullgate-Canary"); g.status != http.StatusForbidden || got != step.want {
			t.Errorf("%s %s: %d, asked %q times, want %s", step.method, step.tag, g.status, got, step.want)
		}
	}
	if asked := r.reg.Requests(); len(asked) > 0 {
		t.Errorf("the registry was asked %v", asked)
	}
}
