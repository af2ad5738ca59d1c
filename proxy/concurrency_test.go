package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// lookups are the questions a verdict costs: everything but a client's blobs.
func lookups(image hostile.Image) hostile.Match {
	return func(q hostile.Request) bool {
		return q.Kind != hostile.Blobs ||
			q.Reference != image.Config.String() && q.Reference != image.Layers[0].String()
	}
}

// Section 9: one flight per image, however many clients ask.
func TestColdPull(t *testing.T) {
	t.Parallel()
	const clients = 200
	r := newRig(t, func(o *options) { o.tagTTL = time.Minute })
	layer := random(3000)
	image := r.reg.PushImage("prod/app", "v1", layer)
	r.reg.Sign("prod/app", image.Digest, r.key)
	r.reg.On(hostile.Slow(50 * time.Millisecond).At(hostile.Is(hostile.Manifests)))
	start := make(chan struct{})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			<-start
			for _, c := range []struct {
				method, path string
				want         []byte
			}{
				{http.MethodHead, manifests("prod/app", "v1"), nil},
				{http.MethodGet, manifests("prod/app", image.Digest), image.Manifest},
				{http.MethodGet, blobs("prod/app", image.Config), r.reg.Blob("prod/app", image.Config)},
				{http.MethodGet, blobs("prod/app", image.Layers[0]), layer},
			} {
				g, err := r.try(t.Context(), c.method, c.path)
				if err != nil || g.err != nil || g.status != 200 || !bytes.Equal(g.body, c.want) {
					t.Errorf("%s %s: %d, %v, %v", c.method, c.path, g.status, err, g.err)
					return
				}
			}
		})
	}
	close(start)
	all.Wait()
	if n := r.reg.Count(lookups(image)); n >= 10 {
		t.Errorf("%d clients cost %d look-ups: %v", clients, n, r.reg.Requests())
	}
}

// Section 9: warm, a pull by digest asks the upstream nothing, and one by tag
// nothing but a HEAD.
func TestWarmPull(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	for range 3 { // caches take what they are given a little later
		r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
		time.Sleep(10 * time.Millisecond)
	}
	r.reg.Forget()
	for range 5 {
		r.head(manifests("prod/app", image.Digest)).served(t, nil)
		r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
	}
	if n := len(r.reg.Requests()); n != 0 {
		t.Errorf("by digest: %v", r.reg.Requests())
	}
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	if all := r.reg.Requests(); len(all) != 1 || all[0].Method != http.MethodHead {
		t.Errorf("by tag: %v", all)
	}
}

// Section 9: no client's leaving cancels what others wait for.
func TestImpatientClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.reg.On(hostile.Slow(80 * time.Millisecond).At(hostile.Is(hostile.Manifests)))
	impatient, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := r.try(impatient, http.MethodGet, manifests("prod/app", "v1"))
		gone <- err
	}()
	for range 100 { // until the flight has begun
		if len(r.reg.Requests()) > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", "v1"))
			if err != nil || g.status != 200 || !bytes.Equal(g.body, image.Manifest) {
				t.Errorf("a patient client: %d, %v: %s", g.status, err, g.body)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the impatient one: %v", err)
	}
	all.Wait()
	if n := r.reg.Count(hostile.For("v1")); n > 2 {
		t.Errorf("the tag was asked for %d times", n)
	}
}

// Verdicts in flight are bounded: what finds no room is could-not-tell, never a
// denial, and is not remembered.
func TestFullHouse(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) {
		o.limits = func(l *limits) { l.VerdictsInFlight, l.VerifyTimeout = 1, verifyTimeout }
	})
	slow, quick := r.signed("slow"), r.signed("quick")
	r.reg.On(hostile.StallAtOnce.At(hostile.For(hostile.SignatureTag(slow.Digest))))
	var all sync.WaitGroup
	all.Go(func() {
		g := r.get(manifests("prod/app", "slow"))
		if g.status != 503 && g.status != 200 { // the referrers may be asked first and say nothing
			t.Errorf("slow: %d %s", g.status, g.body)
		}
	})
	time.Sleep(30 * time.Millisecond)
	if g := r.get(manifests("prod/app", "quick")); g.status != 503 && g.status != 200 {
		t.Errorf("quick: %d %s", g.status, g.body)
	}
	all.Wait()
	r.mend()
	for _, image := range []hostile.Image{slow, quick} {
		r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
	}
}

// A reload in the middle of pulls: each request sees one configuration whole.
func TestReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	var stop atomic.Bool
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for !stop.Load() {
				g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", image.Digest))
				if err != nil || g.status != 200 && g.status != 403 ||
					g.status == 200 && !bytes.Equal(g.body, image.Manifest) {
					t.Errorf("%d %v %s", g.status, err, g.body)
					return
				}
			}
		})
	}
	for i := range 20 {
		deny := `[{name: all, images: ["reg.example/**"], static: deny}]`
		if i%2 == 1 {
			deny = standard
		}
		r.reload(withPolicies(deny))
		want := map[bool]int{true: 200, false: 403}[i%2 == 1]
		if g := r.get(manifests("prod/app", image.Digest)); g.status != want {
			t.Errorf("after reload %d: %d, want %d", i, g.status, want)
		}
	}
	stop.Store(true)
	all.Wait()
}

// The attacker races a tag between a good and a bad image against many clients
// with memory, restarts and digests mixed in: only the good bytes come out.
func TestRacedTag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
	r.reg.On(hostile.Alternate("v1", good.Digest, bad.Digest, bad.Digest, good.Digest))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 15 {
				reference := []string{"v1", bad.Digest.String(), good.Digest.String()}[(i+j)%3]
				g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", reference))
				if err != nil {
					t.Error(err)
					return
				}
				served, said := digest.FromBytes(g.body), g.header.Get("Docker-Content-Digest")
				if g.status == 200 && (served != good.Digest || said != good.Digest.String()) {
					t.Errorf("%s: served %s", reference, served)
				}
				if reference == good.Digest.String() && g.status != 200 ||
					reference == bad.Digest.String() && g.status != 403 {
					t.Errorf("%s: %d %s", reference, g.status, g.body)
				}
			}
		})
	}
	all.Wait()
}

// One client cannot spend the rate limit of all upstream: what it may cause is
// bounded, others go on, and what is in memory costs it nothing.
func TestClientMisses(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 10 } })
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	limited := false
	for range 20 {
		g := r.get(manifests("prod/app", digest.FromBytes(random(8))))
		if limited = g.status == http.StatusTooManyRequests; limited {
			g.refused(t, http.StatusTooManyRequests, "TOOMANYREQUESTS")
			if g.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
	}
	if !limited {
		t.Error("20 misses of a client that may have 10 in a minute")
	}
	r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
	r.clock.advance(time.Minute)
	r.get(manifests("prod/app", digest.FromBytes(random(8)))).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
}
