package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 30 * time.Second

// crowded is a registry whose answers wait, and which counts those under way.
type crowded struct {
	*site
	underWay, most atomic.Int64
	let            chan struct{} // closed: answers come
}

func newCrowded(t *testing.T) *crowded {
	t.Helper()
	c := &crowded{let: make(chan struct{})}
	c.site = serve(t, "http", "", func(w http.ResponseWriter, q *http.Request) {
		n := c.underWay.Add(1)
		defer c.underWay.Add(-1)
		for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
		}
		select {
		case <-c.let:
		case <-q.Context().Done():
		}
		if strings.Contains(q.URL.Path, "/blobs/") {
			sendBlob(w, someBytes)
			return
		}
		sendManifest(w, someBytes)
	})
	return c
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// No more requests are under way than may be, and all of them are answered.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	c := newCrowded(t)
	u := openWith(t, c.url, Config{Concurrency: 8})
	failed := make(chan error)
	for range 50 {
		go func() { failed <- manifestOf(t, u) }()
	}
	eventually(t, "nothing is asked", func() bool { return c.underWay.Load() == 6 })
	time.Sleep(20 * time.Millisecond) // more would come now
	close(c.let)
	for range 50 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if n := c.most.Load(); n > 8 {
		t.Errorf("%d requests at once", n)
	}
}

// Blobs that last leave manifests room, and manifests blobs.
func TestConcurrencyShares(t *testing.T) {
	t.Parallel()
	open := func(u *Upstream, ctx context.Context) error {
		b, err := u.OpenBlob(ctx, repo, someHash, http.MethodGet, "")
		if err != nil {
			return err
		}
		defer b.Body.Close()
		_, err = io.Copy(io.Discard, b.Body)
		return err
	}
	manifest := func(u *Upstream, ctx context.Context) error {
		_, err := u.Manifest(ctx, repo.Tagged("latest"), plenty)
		return err
	}
	for name, asks := range map[string]struct {
		many, one func(*Upstream, context.Context) error
		path      string
	}{
		"blobs":     {open, manifest, "/v2/acme/app/manifests"},
		"manifests": {manifest, open, "/v2/acme/app/blobs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrowded(t)
			u := openWith(t, c.url, Config{Concurrency: 4})
			done := make(chan error)
			for range 20 {
				go func() { done <- asks.many(u, t.Context()) }()
			}
			eventually(t, "nothing is asked", func() bool { return c.underWay.Load() == 3 })
			go func() { done <- asks.one(u, t.Context()) }()
			eventually(t, "the other kind waits for these", func() bool { return len(c.to(asks.path)) == 1 })
			close(c.let)
			for range 21 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A client that leaves gives its place back: in the line, and while it reads.
func TestLeavingTheLine(t *testing.T) {
	t.Parallel()
	c := newCrowded(t)
	u := openWith(t, c.url, Config{Concurrency: 2})
	first, leaveFirst := context.WithCancel(t.Context())
	waiting, leaveWaiting := context.WithCancelCause(t.Context())
	failed := make(chan error)
	ask := func(ctx context.Context) {
		_, err := u.Manifest(ctx, repo.Tagged("latest"), plenty)
		failed <- err
	}
	go ask(first)
	eventually(t, "nothing is asked", func() bool { return c.underWay.Load() == 1 })
	go ask(waiting)
	gone := errors.New("the client has left")
	leaveWaiting(gone)
	if err := <-failed; !errors.Is(err, gone) {
		t.Errorf("the one in the line: %v", err)
	}

	leaveFirst()
	if err := <-failed; err == nil {
		t.Error("the first one has an answer")
	}
	close(c.let)
	mustManifest(t, u)
	if !u.line.all.TryAcquire(2) || !u.line.others.TryAcquire(1) {
		t.Error("places are not given back")
	}
}

// Every way out of a question gives its place back.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]http.HandlerFunc{
		"fine":        manifestHandler(someBytes),
		"other bytes": manifestHandler([]byte("{}")),
		"404":         always(404, nil, ""),
		"401":         always(401, nil, ""),
		"500":         always(500, nil, ""),
		"encoded":     always(200, map[string]string{"Content-Encoding": "br"}, "x"),
		"a loop": func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, q.URL.Path, http.StatusFound)
		},
		"a bad target": always(302, map[string]string{"Location": "ftp://x"}, ""),
		"hang-up":      func(w http.ResponseWriter, _ *http.Request) { cut(w, "") },
		"cut":          func(w http.ResponseWriter, _ *http.Request) { cut(w, "x") },
		"a range":      always(206, map[string]string{"Content-Range": "bytes 9-9/10"}, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "http", "", h)
			u := openWith(t, s.url, Config{Concurrency: 2, Redirect: true})
			ctx := t.Context()
			_, _ = u.Manifest(ctx, repo.At(someHash), plenty)
			_, _, _ = u.Resolve(ctx, repo, "latest")
			_, _ = u.Blob(ctx, repo, someHash, plenty)
			_, _ = u.Referrers(ctx, repo, someHash, plenty)
			_, _, _ = u.Tags(ctx, repo, "", plenty)
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				for _, byteRange := range []string{"", "bytes=1-2"} {
					if b, err := u.OpenBlob(ctx, repo, someHash, method, byteRange); err == nil {
						_, _ = io.Copy(io.Discard, b.Body)
						_ = b.Body.Close()
						_ = b.Body.Close() // a second time gives nothing back
					}
				}
			}
			if !u.line.all.TryAcquire(2) || !u.line.others.TryAcquire(1) || !u.line.blobs.TryAcquire(1) {
				t.Error("a place is not given back")
			}
			u.line.all.Release(2) // panics where too many were given back
			u.line.others.Release(1)
			u.line.blobs.Release(1)
		})
	}
}
