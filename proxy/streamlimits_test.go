package proxy_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/test/hostile"
)

// However often a client asks for a blob, the gate holds no more connections to
// the registry for it than its limit says, and what memory answers goes on.
func TestStreamLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) { o.streams = proxy.StreamLimits{All: 10, Client: 3, MinRate: 1} })
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	layer := blobs("prod/app", image.Layers[0])
	r.reg.On(hostile.StallMidBody.At(hostile.For(image.Layers[0])))
	before := len(r.reg.Requests())

	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	statuses := make(chan int, 20)
	var asked sync.WaitGroup
	for range cap(statuses) {
		asked.Go(func() {
			if g, err := r.try(ctx, http.MethodGet, layer); err == nil {
				statuses <- g.status
			}
		})
	}
	for refused := range 17 {
		select {
		case status := <-statuses:
			if status != http.StatusTooManyRequests {
				t.Errorf("answered %d", status)
			}
		case <-time.After(pace(10 * time.Second)):
			t.Fatalf("%d of 17 were refused", refused)
		}
	}
	if n := len(r.reg.Requests()) - before; n != 3 {
		t.Errorf("the registry was asked %d times", n)
	}
	r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)

	r.mend()
	leave()
	asked.Wait()
	r.get(layer).served(t, r.reg.Blob("prod/app", image.Layers[0]))
}
