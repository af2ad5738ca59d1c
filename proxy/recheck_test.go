package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// A digest that memory or state answers is asked for again some time. When the
// registry is silent, or has it no more, for longer than staleIfError, it is
// refused like a tag.
func TestRecheck(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		trick  hostile.Trick
		status int
		code   string
	}{
		"silent": {hostile.Status(http.StatusServiceUnavailable), http.StatusServiceUnavailable, "UNAVAILABLE"},
		"gone":   {hostile.Status(http.StatusNotFound), http.StatusNotFound, "MANIFEST_UNKNOWN"},
	} {
		for _, repo := range []string{"open/app", "prod/app"} {
			t.Run(name+", "+repo, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				image := r.reg.PushImage(repo, "v1")
				r.reg.Sign(repo, image.Digest, r.key)
				path := manifests(repo, image.Digest)
				r.get(path).served(t, image.Manifest)
				r.reg.On(row.trick.At(hostile.For(image.Digest)))

				r.clock.advance(23 * time.Hour)
				r.get(path).served(t, image.Manifest)
				r.restart() // the state knows when it was there
				r.get(path).served(t, image.Manifest)

				r.clock.advance(2 * time.Hour)
				r.get(path).refused(t, row.status, row.code)
				if g := r.get(blobs(repo, image.Digest)); g.status != row.status {
					t.Errorf("as a blob: status %d, want %d: %s", g.status, row.status, g.body)
				}
				r.restart()
				r.get(path).refused(t, row.status, row.code)

				r.reg.Off()
				r.get(path).served(t, image.Manifest)
			})
		}
	}

	t.Run("there", func(t *testing.T) { // one question keeps it for as long again
		t.Parallel()
		r := newRig(t, func(o *options) { o.recheck = 2 * time.Hour })
		image := r.reg.PushImage("open/app", "v1")
		path := manifests("open/app", image.Digest)
		r.get(path).served(t, image.Manifest)

		for range 15 {
			r.reg.Forget()
			r.clock.advance(2*time.Hour + time.Second)
			for range 5 {
				r.get(path).served(t, image.Manifest)
			}
			if n := len(r.reg.Requests()); n != 1 {
				t.Fatalf("%d requests for one time", n)
			}
		}
		r.reg.On(hostile.Status(http.StatusServiceUnavailable))
		r.restart() // what was seen last is on disk, about
		r.clock.advance(20 * time.Hour)
		r.get(path).served(t, image.Manifest)
	})

	t.Run("silent for a while", func(t *testing.T) { // and not asked each time
		t.Parallel()
		r := newRig(t, func(o *options) { o.recheck = time.Hour })
		image := r.reg.PushImage("open/app", "v1")
		path := manifests("open/app", image.Digest)
		r.get(path).served(t, image.Manifest)
		r.reg.On(hostile.Status(http.StatusServiceUnavailable))
		r.reg.Forget()

		r.clock.advance(2 * time.Hour)
		for range 20 {
			r.get(path).served(t, image.Manifest)
		}
		if n := len(r.reg.Requests()); n > 4 { // with the upstream's own attempts
			t.Errorf("%d requests", n)
		}
	})

	t.Run("tag", func(t *testing.T) { // a HEAD says that the digest is there, too
		t.Parallel()
		r := newRig(t)
		image := r.reg.PushImage("open/app", "v1")
		r.get(manifests("open/app", "v1")).served(t, image.Manifest)
		r.clock.advance(20 * time.Hour)
		r.head(manifests("open/app", "v1")).served(t, nil)
		r.reg.On(hostile.Status(http.StatusServiceUnavailable))

		r.clock.advance(20 * time.Hour)
		r.get(manifests("open/app", image.Digest)).served(t, image.Manifest)
	})

	t.Run("quota", func(t *testing.T) { // whose asking is no way around it
		t.Parallel()
		r := newRig(t, withMisses(5), func(o *options) { o.recheck = time.Hour })
		image := r.reg.PushImage("open/app", "v1")
		path := manifests("open/app", image.Digest)
		r.get(path).served(t, image.Manifest)
		r.clock.advance(2 * time.Hour)
		greedy := r.from("127.0.0.2")
		r.spent(greedy)
		r.reg.Forget()

		status, err := r.asks(t.Context(), greedy, http.MethodGet, path)
		if err != nil || status != http.StatusOK || len(r.reg.Requests()) > 0 {
			t.Errorf("a client without a question left: %d, %v, %v", status, err, r.reg.Requests())
		}
	})
}
