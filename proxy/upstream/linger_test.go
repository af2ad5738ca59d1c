package upstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullgate/pullgate/verify/oci"
)

// slowRegistry counts its connections, and leaves the answer to "manifests/slow"
// to the test.
type slowRegistry struct {
	up     *Upstream
	opened atomic.Int64
	asked  chan struct{} // one for each question under way
	ended  chan struct{} // one for each that the gate gave up, or that was answered
}

func newSlowRegistry(t *testing.T, slow http.HandlerFunc) *slowRegistry {
	t.Helper()
	r := &slowRegistry{asked: make(chan struct{}, 1000), ended: make(chan struct{}, 1000)}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/v2/acme/app/manifests/slow" {
			sendManifest(w, someBytes)
			return
		}
		r.asked <- struct{}{}
		defer func() { r.ended <- struct{}{} }()
		slow(w, q)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			r.opened.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if r.up, err = New(Config{Host: "registry.example", URL: base}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.up.Close)
	return r
}

// giveUp asks n times at once, ends the context with cause when all questions
// have arrived, and says how long the callers needed to notice.
func (r *slowRegistry) giveUp(t *testing.T, n int, cause error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := r.up.Manifest(ctx, repo.Tagged("slow"), plenty); err == nil {
				t.Error("an answer to a question that was given up")
			}
		})
	}
	for range n {
		<-r.asked
	}
	start := time.Now()
	cancel(cause)
	all.Wait()
	return time.Since(start)
}

// within fails unless n questions end before the time is over.
func (r *slowRegistry) within(t *testing.T, n int, most time.Duration) {
	t.Helper()
	late := time.After(most)
	for i := range n {
		select {
		case <-r.ended:
		case <-late:
			t.Fatalf("%d of %d questions are still under way after %s", n-i, n, most)
		}
	}
}

func untilGivenUp(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }

// A busy machine is slow; what must not happen takes lingerFor or for ever.
const soon = lingerFor / 2

// The connection on which an answer is awaited that nobody needs any more is
// used again.
func TestLingeringConnection(t *testing.T) {
	release := make(chan struct{})
	r := newSlowRegistry(t, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		http.NotFound(w, nil)
	})
	const rounds = 20
	for range rounds {
		if took := r.giveUp(t, 1, oci.ErrEnough); took > soon {
			t.Errorf("the caller waited %s for an answer it did not need", took)
		}
		release <- struct{}{}
		r.within(t, 1, time.Minute)
		time.Sleep(10 * time.Millisecond) // until the answer is here
		if _, err := r.up.Manifest(t.Context(), repo.Tagged("other"), plenty); err != nil {
			t.Fatal(err)
		}
	}
	if n := r.opened.Load(); n > rounds/4 { // on an idle machine 1, without lingering one for each
		t.Errorf("%d connections for %d questions, one after the other, half of them given up", n, 2*rounds)
	}
}

// Whoever answers such a question never, slowly or without an end holds it for
// a moment.
func TestLingeringTime(t *testing.T) {
	var sent atomic.Int64
	drip := func(w http.ResponseWriter, q *http.Request, size int, pause time.Duration) {
		chunk := make([]byte, size)
		for q.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
			sent.Add(int64(size))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(pause)
		}
	}
	for name, slow := range map[string]http.HandlerFunc{
		"no answer": untilGivenUp,
		"a body that drips": func(w http.ResponseWriter, q *http.Request) {
			time.Sleep(100 * time.Millisecond)
			drip(w, q, 1, 5*time.Millisecond)
		},
		"an endless body": func(w http.ResponseWriter, q *http.Request) {
			time.Sleep(100 * time.Millisecond)
			drip(w, q, 32<<10, 0)
		},
		"a redirect": func(w http.ResponseWriter, q *http.Request) {
			time.Sleep(100 * time.Millisecond)
			http.Redirect(w, q, "/v2/acme/app/manifests/slow", http.StatusFound) // nobody follows it
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSlowRegistry(t, slow)
			sent.Store(0)
			if took := r.giveUp(t, 4, oci.ErrEnough); took > soon {
				t.Errorf("the callers waited %s", took)
			}
			r.within(t, 4, 4*lingerFor)
			if n := sent.Load(); n > 64<<20 { // what sockets hold on both ends, and no more
				t.Errorf("%d bytes were taken", n)
			}
			if n := len(r.asked); n != 0 {
				t.Errorf("%d more questions were asked", n)
			}
		})
	}
}

// However many questions become needless at once, few linger, and afterwards
// nothing is left of them.
func TestLingeringCount(t *testing.T) {
	r := newSlowRegistry(t, untilGivenUp)
	before := runtime.NumGoroutine()
	const questions = 200
	r.giveUp(t, questions, oci.ErrEnough)
	r.within(t, questions-maxLingering, soon)
	r.within(t, maxLingering, 4*lingerFor)
	for range 500 {
		if runtime.NumGoroutine() <= before+5 && len(r.up.lingering) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before; %d linger", runtime.NumGoroutine(), before, len(r.up.lingering))
}

// A client that leaves, a deadline and a shutdown end a question with them.
func TestEndsWithoutLingering(t *testing.T) {
	r := newSlowRegistry(t, untilGivenUp)
	r.giveUp(t, 10, context.DeadlineExceeded)
	r.within(t, 10, soon)
	r.giveUp(t, 10, nil)
	r.within(t, 10, soon)
	r.giveUp(t, 10, oci.ErrEnough)
	r.up.Close()
	r.within(t, 10, soon)
}

// An answer that has begun is the caller's, and ends with its context.
func TestBodyContext(t *testing.T) {
	for _, cause := range []error{nil, oci.ErrEnough} {
		r := newSlowRegistry(t, func(w http.ResponseWriter, q *http.Request) {
			_ = http.NewResponseController(w).Flush()
			untilGivenUp(w, q)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := r.up.Manifest(ctx, repo.Tagged("slow"), plenty)
			failed <- err
		}()
		<-r.asked
		for len(r.up.reads) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel(cause)
		select {
		case err := <-failed:
			if err == nil {
				t.Error("half a body is an answer")
			}
		case <-time.After(soon):
			t.Fatal("the caller waits for a body nobody sends")
		}
		r.within(t, 1, soon)
	}
}
