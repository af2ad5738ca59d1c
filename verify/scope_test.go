package verify

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/judge"
)

// Every key of memory and flights names whose credentials read it.
func TestKeysOfScopes(t *testing.T) {
	t.Parallel()
	g := &Gate{judge: &judge.Judge{}}
	d := digest.FromString("x")
	p := &policy.Policy{Hash: "h"}
	seen := map[string]string{}
	for _, scope := range []string{"", "a", "b"} {
		repo := policy.Repository{Host: "r.example", Path: "acme/app", Scope: scope}
		for kind, key := range map[string]string{
			"image":   imageKey(repo, d),
			"tag":     tagKey(repo, "v1"),
			"verdict": g.verdictKey(repo, d, p),
		} {
			if other, twice := seen[key]; twice {
				t.Errorf("the key of a %s for scope %q is that of %s", kind, scope, other)
			}
			seen[key] = kind + " for " + scope
		}
		if repo.String() != "r.example/acme/app" {
			t.Errorf("its name is %s", repo)
		}
	}
}
