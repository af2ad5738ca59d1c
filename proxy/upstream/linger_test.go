package upstream

import (
	"context"
	"fmt"
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

// slowRegistry counts its connections; the test answers "manifests/slow".
type slowRegistry struct {
	up     *Upstream
	opened atomic.Int64
	asked  chan struct{} // one for each request that arrived
	ended  chan struct{} // one for each request that was given up or answered
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
	if r.up, err = New(Config{Host: "registry.example", URL: base, Concurrency: 1000}); err != nil {
		t.Fatal(err)
	}
	r.up.lingerFor = lingered
	t.Cleanup(r.up.Close)
	return r
}

// giveUp sends n requests at once, ends their context with cause when all have
// arrived, and returns how long the callers took to notice.
func (r *slowRegistry) giveUp(t *testing.T, n int, cause error) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := r.up.Manifest(ctx, repo.Tagged("slow"), plenty); err == nil {
				t.Error("an answer to a request that was given up")
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

// within fails unless n requests end in time.
func (r *slowRegistry) within(t *testing.T, n int, most time.Duration) {
	t.Helper()
	late := time.After(most)
	for i := range n {
		select {
		case <-r.ended:
		case <-late:
			t.Fatalf("%d of %d requests are still under way after %s", n-i, n, most)
		}
	}
}

func untilGivenUp(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }

// A request that lingers takes lingered here, longer than in service; soon is long
// enough for a busy machine.
const (
	lingered = 3 * time.Second
	soon     = lingered / 2
)

// A connection is used again after an answer on it was not needed any more.
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
		t.Errorf("%d connections for %d requests in a row, half of them given up", n, 2*rounds)
	}
}

// A registry that answers such a request never, slowly or without an end holds it
// only for a moment.
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
			http.Redirect(w, q, "/v2/acme/app/manifests/slow", http.StatusFound) // it is not followed
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSlowRegistry(t, slow)
			sent.Store(0)
			if took := r.giveUp(t, 4, oci.ErrEnough); took > soon {
				t.Errorf("the callers waited %s", took)
			}
			r.within(t, 4, 4*lingered)
			if n := sent.Load(); n > 64<<20 { // what sockets hold on both ends
				t.Errorf("%d bytes were taken", n)
			}
			if n := len(r.asked); n != 0 {
				t.Errorf("%d more requests were sent", n)
			}
		})
	}
}

// Few of many requests that are given up at once linger, and nothing is left of
// them afterwards.
func TestLingeringCount(t *testing.T) {
	r := newSlowRegistry(t, untilGivenUp)
	before := runtime.NumGoroutine()
	const questions = 200
	r.giveUp(t, questions, oci.ErrEnough)
	r.within(t, questions-maxLingering, soon)
	r.within(t, maxLingering, 4*lingered)
	for range 500 {
		if runtime.NumGoroutine() <= before+5 && len(r.up.lingering) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before; %d linger", runtime.NumGoroutine(), before, len(r.up.lingering))
}

// A client that leaves, a deadline and a shutdown end the request at once.
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

// The body of an answer belongs to the caller and ends with its context.
func TestBodyContext(t *testing.T) {
	for _, cause := range []error{nil, oci.ErrEnough} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
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
				t.Fatal("the caller waits for a body that is not sent")
			}
			r.within(t, 1, soon)
		})
	}
}
