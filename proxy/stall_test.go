package proxy_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// Promise 7: with every verdict in flight stalled, and every answer that may be
// read at once too, what memory answers is served as if nothing were.
func TestStalledVerdicts(t *testing.T) {
	timeout := pace(3 * time.Second)
	for name, stall := range map[string]hostile.Trick{
		"no answer": hostile.StallAtOnce,
		"no body":   hostile.StallAfterHeaders,
	} {
		t.Run(name, func(t *testing.T) {
			r, _, end := siege(t, func(o *options) {
				o.limits = func(l *limits) { l.VerdictsInFlight, l.VerifyTimeout = 4, timeout }
			})
			defer end()
			warm, cold := r.signed("warm"), r.reg.PushImage("prod/app", "cold")
			for range 3 {
				r.get(manifests("prod/app", "warm")).served(t, warm.Manifest)
				r.get(blobs("prod/app", warm.Layers[0])).served(t, r.reg.Blob("prod/app", warm.Layers[0]))
				time.Sleep(10 * time.Millisecond)
			}
			slowest := func() (most time.Duration) {
				for range 10 {
					for _, path := range []string{
						manifests("prod/app", warm.Digest),
						manifests("prod/app", "warm"),
						blobs("prod/app", warm.Layers[0]),
					} {
						start := time.Now()
						if g := r.get(path); g.status != 200 {
							t.Errorf("%s: %d", path, g.status)
						}
						most = max(most, time.Since(start))
					}
				}
				return most
			}
			var all sync.WaitGroup
			var stalled []string
			for i := range 100 { // more than upstream answers may be read at once
				image := r.reg.PushImage("prod/app", fmt.Sprint("stalled", i))
				r.reg.Sign("prod/app", image.Digest, newKey(t)) // else a 404's headers are answer enough
				stalled = append(stalled, image.Digest.String())
				r.reg.On(stall.At(hostile.For(hostile.SignatureTag(image.Digest))))
				if i%2 == 0 { // its manifest too
					r.reg.On(stall.At(hostile.For(image.Digest)))
				}
			}
			for _, d := range stalled {
				all.Go(func() {
					start := time.Now()
					g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", d))
					if took := time.Since(start); err != nil || g.status != 503 || took > timeout+pace(10*time.Second) {
						t.Errorf("a stalled one: %d %v after %s", g.status, err, took)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			if most := slowest(); most > timeout-pace(500*time.Millisecond) {
				t.Errorf("a warm pull took %s", most)
			}
			if g := r.get(manifests("prod/app", cold.Digest)); g.status != 503 && g.status != 403 { // it is unsigned
				t.Errorf("a cold pull meanwhile: %d %.300s", g.status, g.body)
			}
			all.Wait()
			r.mend()
			r.clock.advance(time.Minute)
			r.get(manifests("prod/app", cold.Digest)).refused(t, http.StatusForbidden, "DENIED")
		})
	}
}
