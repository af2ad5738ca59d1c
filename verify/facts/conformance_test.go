package facts_test

import (
	"testing"

	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/factstest"
)

func TestBoltConformance(t *testing.T) {
	t.Parallel()
	factstest.Conformance(t, func(t *testing.T) facts.Store {
		t.Helper()
		store, err := facts.OpenBolt(t.TempDir(), 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return store
	})
}
