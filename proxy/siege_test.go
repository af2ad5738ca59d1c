package proxy_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pullgate/pullgate/proxy/upstream"
)

// The tests of the design's limits (sections 4 and 6) run under siege, against
// an attacker who owns the repository. They do not run beside others: they count
// what the whole process allocates and which goroutines are left.

// front stands before the registry and answers some requests itself, with the
// bytes of the attacker's choice. Keys are the path's last two parts, as in
// "manifests/v1".
type front struct {
	next http.Handler

	mu    sync.Mutex
	lies  map[string]http.HandlerFunc
	asked map[string]int
}

func (f *front) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	parts := strings.Split(req.URL.Path, "/")
	key := strings.Join(parts[max(0, len(parts)-2):], "/")
	f.mu.Lock()
	lie := f.lies[key]
	f.asked[key]++
	f.mu.Unlock()
	if lie == nil {
		lie = f.next.ServeHTTP
	}
	lie(w, req)
}

func (f *front) on(key string, lie http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lies[key] = lie
}

func (f *front) count(key string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[key]
}

// behind puts a front between the gate and the registry.
func (r *rig) behind() *front {
	r.t.Helper()
	f := &front{next: r.reg, lies: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	server := httptest.NewServer(f)
	r.t.Cleanup(server.Close)
	r.t.Cleanup(server.CloseClientConnections) // lies that go on for ever end here
	base, err := url.Parse(server.URL)
	if err != nil {
		r.t.Fatal(err)
	}
	up, err := upstream.New(upstream.Config{Host: "reg.example", URL: base, UserAgent: "pullgate/test"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(up.Close)
	r.upstreams["reg.example"] = up
	r.reload()
	return f
}

// says answers with a body, truly measured.
func says(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	}
}

// quiet is how long one pull may take under attack, and what it may allocate.
type quiet struct {
	timeout time.Duration // of a verdict
	alloc   uint64        // bytes, this process whole: gate, registry and client
}

// within runs one request of the attack and checks what it cost.
func (q quiet) within(t *testing.T, ask func() got) got {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	g := ask()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if took > q.timeout+pace(10*time.Second) {
		t.Errorf("it took %s", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > q.alloc {
		t.Errorf("%d MiB allocated, at most %d MiB may be", n>>20, q.alloc>>20)
	}
	return g
}

// get asks for path as one request of the attack.
func (q quiet) get(t *testing.T, r *rig, path string) got {
	t.Helper()
	return q.within(t, func() got { return r.get(path) })
}

// siege is a rig under attack. The function it returns is deferred: it checks
// that a cold pull is as fast as it was before, and that no goroutine is left.
func siege(t *testing.T, change ...func(*options)) (*rig, *front, func()) {
	t.Helper()
	r := newRig(t, change...)
	f := r.behind()
	pull := func() time.Duration {
		var times []time.Duration
		for range 5 {
			image := r.signed("")
			start := time.Now()
			r.get(manifests("prod/app", image.Digest)).served(t, image.Manifest)
			r.get(blobs("prod/app", image.Layers[0])).served(t, r.reg.Blob("prod/app", image.Layers[0]))
			times = append(times, time.Since(start))
		}
		slices.Sort(times)
		return times[2]
	}
	before := pull()
	r.settle()
	goroutines := runtime.NumGoroutine()
	return r, f, func() {
		t.Helper()
		r.reg.Off()
		f.mu.Lock()
		clear(f.lies)
		f.mu.Unlock()
		if after := pull(); after > 5*before+pace(2*time.Second) {
			t.Errorf("a good pull took %s before and %s after", before, after)
		}
		left := 0
		for range 500 { // what was under way ends with its own deadline
			r.settle()
			if left = runtime.NumGoroutine(); left <= goroutines {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		stacks := make([]byte, 64<<10)
		t.Errorf("%d goroutines before, %d after:\n%s", goroutines, left, stacks[:runtime.Stack(stacks, true)])
	}
}

// settle lets go of idle connections, which have goroutines of their own.
func (r *rig) settle() {
	r.client.CloseIdleConnections()
	for _, u := range r.upstreams {
		u.Close()
	}
}

// patience is a timeout that parsing megabytes on a busy machine keeps.
var patience = pace(5 * time.Second)

func patient(o *options) { o.limits = func(l *limits) { l.VerifyTimeout = patience } }

// sorted is for a stable order of subtests.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
