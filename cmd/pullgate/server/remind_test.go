package server_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/rig"
)

const gateWarns = "the whole gate is in warn mode: nothing but `static: deny` is refused"

// A gate that serves says so in its own log.
func TestServeReminds(t *testing.T) {
	r := rig.Start(t, func(r *rig.Rig) string {
		rig.Write(t, r.Dir, "key.pub", r.Key)
		return r.Base() + "mode: warn\n" + rig.SignedByKey
	})
	for range 500 {
		if slices.Contains(r.Log.Warnings(), gateWarns) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("nothing says that the gate is in warn mode, only %q", r.Log.Warnings())
}
