package verify_test

import (
	"testing"

	"github.com/pullgate/pullgate/verify"
)

// TestDurability: facts are on the disk when they are learnt, so that a machine
// that loses its power forgets no image that it has served. No test can see
// that but in the state's options.
func TestDurability(t *testing.T) {
	t.Parallel()
	store, err := verify.OpenStore(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if !store.Syncs() {
		t.Error("the state does not wait for the disk")
	}
}
