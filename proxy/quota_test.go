package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// asks sends one request of client's and returns the answer's status.
func (r *rig) asks(ctx context.Context, client *http.Client, method, path string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// spent asks for what is not there until client has no question left.
func (r *rig) spent(client *http.Client) {
	r.t.Helper()
	for range 1000 {
		status, err := r.asks(r.t.Context(), client, http.MethodGet, manifests("prod/app", digest.FromBytes(random(8))))
		if err != nil {
			r.t.Fatal(err)
		}
		if status == http.StatusTooManyRequests {
			return
		}
	}
	r.t.Fatal("a client that never has enough")
}

func withMisses(n int) func(*options) {
	return func(o *options) { o.limits = func(l *limits) { l.ClientMisses = n } }
}

// A client without a question left shares look-ups with others. What it may not
// ask for is its own answer, never theirs.
func TestQuotaInSharedFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMisses(20))
	old := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, old.Manifest)
	r.signed("v1") // a release: the tag moves on
	greedy := r.from("127.0.0.2")
	r.spent(greedy)
	r.reg.On(hostile.Slow(20 * time.Millisecond).At(hostile.For("v1")))

	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for ctx.Err() == nil {
				_, _ = r.asks(ctx, greedy, http.MethodHead, manifests("prod/app", "v1"))
			}
		})
	}
	for i := range 20 {
		time.Sleep(5 * time.Millisecond) // into the middle of a look-up
		victim := r.from(fmt.Sprintf("127.0.1.%d", i+1))
		status, err := r.asks(ctx, victim, http.MethodHead, manifests("prod/app", "v1"))
		if err != nil || status != http.StatusOK {
			t.Errorf("a client that has asked nothing: %d, %v", status, err)
		}
	}
	stop()
	all.Wait()
}

// A HEAD for a known tag is a question to the registry like any other. A client
// without one left is told what the tag stood for a moment ago.
func TestKnownTagBudget(t *testing.T) {
	t.Parallel()
	const misses = 30
	poll := func(r *rig, client *http.Client) (asked, upstream int) {
		r.reg.Forget()
		for start := time.Now(); time.Since(start) < 300*time.Millisecond; asked++ {
			status, err := r.asks(t.Context(), client, http.MethodHead, manifests("prod/app", "v1"))
			if err != nil || status != http.StatusOK {
				t.Fatalf("request %d: %d, %v", asked, status, err)
			}
		}
		return asked, len(r.reg.Requests())
	}

	t.Run("spent", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withMisses(misses))
		r.signed("v1")
		greedy := r.from("127.0.0.2")
		r.get(manifests("prod/app", "v1"))
		r.spent(greedy)

		if asked, upstream := poll(r, greedy); upstream > 3 {
			t.Errorf("without a question left it asked %d times, and the registry was asked %d times", asked, upstream)
		}
	})

	t.Run("spends", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withMisses(misses))
		r.signed("v1")
		greedy := r.from("127.0.0.2")
		r.get(manifests("prod/app", "v1"))

		if asked, upstream := poll(r, greedy); upstream > misses+3 {
			t.Errorf("a client asked %d times, the registry was asked %d times", asked, upstream)
		}
	})

	t.Run("moved", func(t *testing.T) { // it sees no more than a moment's past
		t.Parallel()
		r := newRig(t, withMisses(misses))
		r.signed("v1")
		r.get(manifests("prod/app", "v1"))
		greedy := r.from("127.0.0.2")
		r.spent(greedy)
		fresh := r.signed("v1")
		r.get(manifests("prod/app", "v1")).served(t, fresh.Manifest) // another client learns of it

		resp, err := greedy.Get(r.url + manifests("prod/app", "v1"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if d := resp.Header.Get("Docker-Content-Digest"); d != fresh.Digest.String() {
			t.Errorf("status %d, %s; want %s", resp.StatusCode, d, fresh.Digest)
		}
	})

	t.Run("registry away", func(t *testing.T) { // which is not asked the more for it
		t.Parallel()
		r := newRig(t, withMisses(misses))
		r.signed("v1")
		r.get(manifests("prod/app", "v1"))
		greedy := r.from("127.0.0.2")
		r.spent(greedy)
		r.clock.advance(time.Second)
		r.reg.On(hostile.Status(http.StatusServiceUnavailable))
		r.reg.Forget()

		for range 50 {
			status, err := r.asks(t.Context(), greedy, http.MethodHead, manifests("prod/app", "v1"))
			if err != nil || status != http.StatusOK && status != http.StatusTooManyRequests {
				t.Fatalf("%d, %v", status, err)
			}
		}
		if n := len(r.reg.Requests()); n > 5 {
			t.Errorf("the registry was asked %d times", n)
		}
	})
}

// expensiveImage pushes an image whose verdict asks the registry about 200
// times.
func (r *rig) expensiveImage() hostile.Image {
	image := r.reg.PushImage("prod/app", "")
	payload := hostile.Payload("prod/app", image.Digest)
	signature := hostile.SignatureLayer(payload, newKey(r.t))
	other := func(space string, i int) hostile.Layer { // another blob each
		layer := signature
		layer.Body = append([]byte(strings.Repeat(space, i+1)), payload...)
		return layer
	}

	var layers []hostile.Layer
	for i := range 64 {
		r.reg.PushArtifact("prod/app", "", hostile.Artifact{
			Type:    bundleType,
			Layers:  []hostile.Layer{other(" ", i)},
			Subject: image.Digest,
		})
		layers = append(layers, other("\n", i))
	}
	r.reg.PushArtifact("prod/app", hostile.SignatureTag(image.Digest), hostile.Artifact{Layers: layers})
	return image
}

// A verdict is charged by what it asks the registry for. Where verdicts are
// expensive a client pays before it may ask for one.
func TestVerdictBudget(t *testing.T) {
	t.Parallel()
	const misses = 300
	r := newRig(t, withMisses(misses))
	var images []hostile.Image
	for range 6 {
		images = append(images, r.expensiveImage())
	}
	greedy, other, poor := r.from("127.0.0.2"), r.from("127.0.0.3"), r.from("127.0.0.4")
	ask := func(client *http.Client, image hostile.Image) int {
		t.Helper()
		status, err := r.asks(t.Context(), client, http.MethodGet, manifests("prod/app", image.Digest))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}

	r.reg.Forget()
	if status := ask(greedy, images[0]); status != http.StatusForbidden {
		t.Fatalf("the first one: status %d", status)
	}
	if n := len(r.reg.Requests()); n < 100 {
		t.Fatalf("an expensive verdict asked the registry %d times only", n)
	}
	for _, image := range images[1:] {
		ask(greedy, image)
	}
	if n := len(r.reg.Requests()); n > misses {
		t.Errorf("a client that may ask %d times a minute made the gate ask %d times", misses, n)
	}

	for i := range misses / 2 { // what is left does not pay for an expensive verdict
		path := manifests("prod/app", fmt.Sprint("none", i))
		if _, err := r.asks(t.Context(), poor, http.MethodGet, path); err != nil {
			t.Fatal(err)
		}
	}
	r.reg.Forget()
	status := ask(poor, images[4])
	if n := len(r.reg.Requests()); status != http.StatusTooManyRequests || n > 1 {
		t.Errorf("status %d after %d requests; want 429 before the signatures are looked for", status, n)
	}

	if status := ask(other, images[5]); status != http.StatusForbidden { // who has not asked may
		t.Errorf("another client: status %d", status)
	}
	r.clock.advance(2 * time.Minute) // and what is owed is paid some time
	if status := ask(greedy, images[1]); status != http.StatusForbidden {
		t.Errorf("after two minutes: status %d", status)
	}
}

// Sharing an expensive verdict costs less than asking for it: what was not asked
// for is given back.
func TestSharedVerdictBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMisses(450))
	first, second := r.expensiveImage(), r.expensiveImage()
	r.get(manifests("prod/app", first.Digest)) // it is known now what they cost
	r.reg.On(hostile.Slow(100 * time.Millisecond).At(hostile.For(hostile.SignatureTag(second.Digest))))

	var all sync.WaitGroup
	other := r.from("127.0.0.2")
	for range 2 {
		all.Go(func() {
			_, err := r.asks(t.Context(), other, http.MethodGet, manifests("prod/app", second.Digest))
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()

	third := r.expensiveImage()
	if status, err := r.asks(t.Context(), other, http.MethodGet, manifests("prod/app", third.Digest)); status != 403 {
		t.Errorf("one verdict was made for two requests, and the next is refused: %d, %v", status, err)
	}
}

// An image that is signed costs what its look-ups are: a few questions.
func TestSignedVerdictBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMisses(60))
	for i := range 10 {
		image := r.signed(fmt.Sprint("v", i))
		g := r.get(manifests("prod/app", image.Digest))
		if g.status != http.StatusOK || !bytes.Equal(g.body, image.Manifest) {
			t.Fatalf("image %d of 10: %d %s", i, g.status, g.body)
		}
	}
}
