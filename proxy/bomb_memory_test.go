package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// heapDuring is the most heap in use, with little garbage among it, while work
// runs, beyond what was in use before.
func heapDuring(work func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	inUse := func() uint64 { // without stopping the world, as ReadMemStats does
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before := inUse()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := before
		for {
			select {
			case <-stop:
				peak <- most - before
				return
			case <-time.After(3 * time.Millisecond):
				most = max(most, inUse())
			}
		}
	}()
	work()
	close(stop)
	return <-peak
}

// Promise 7: reading is bounded, not only fetching. What many bombs take at
// once, beside their bytes, does not grow with their number.
func TestBombMemory(t *testing.T) {
	if pace(1) > 1 {
		t.Skip("the race detector makes it too slow to be quick, and takes memory of its own")
	}
	const clients = 30
	r, f, end := siege(t, func(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = 20 * time.Second } })
	defer end()
	r.client.Timeout = 25 * time.Second    // memory is measured here, not time
	keys := bombs(1 << 20)["keys in bulk"] // a quarter of what may come, for the test to be quick
	image, referrers := imageWith(1, `,"x":`+keys), indexWith(1, "")
	annotated := []byte(`"size":2,"annotations":` + strings.ReplaceAll(keys, ":0", `:""`))
	referrers = bytes.Replace(referrers, []byte(`"size":2`), annotated, 1)
	for name, c := range map[string]struct {
		bytes int
		lay   func(i int) string
	}{
		"manifest": {len(image), func(i int) string {
			f.on(fmt.Sprint("manifests/bomb", i), says(hostile.ImageType, image))
			return manifests("prod/app", fmt.Sprint("bomb", i))
		}},
		"referrers": {len(referrers), func(i int) string {
			image := r.reg.PushImage("prod/app", "")
			f.on("referrers/"+image.Digest.String(), says(hostile.IndexType, referrers))
			return manifests("prod/app", image.Digest)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var paths []string
			for i := range clients {
				paths = append(paths, c.lay(i))
			}
			var slowest atomic.Int64
			load := func(paths []string) uint64 {
				return heapDuring(func() {
					var all sync.WaitGroup
					for _, path := range paths {
						all.Go(func() {
							start := time.Now()
							if g, err := r.try(t.Context(), http.MethodGet, path); err != nil || g.status == 200 {
								t.Errorf("%d %v", g.status, err)
							}
							slowest.Store(max(slowest.Load(), int64(time.Since(start))))
						})
					}
					all.Wait()
				})
			}
			few := load(paths[:2])
			most := load(paths[2:])
			t.Logf("2 at once: %d MiB, %d at once: %d MiB, slowest %s",
				few>>20, len(paths)-2, most>>20, time.Duration(slowest.Load()))
			if limit := 3*few + uint64(2*len(paths)*c.bytes); most > limit {
				t.Errorf("2 at once take %d MiB of heap, %d take %d MiB, at most %d may be",
					few>>20, len(paths)-2, most>>20, limit>>20)
			}
		})
	}
}
