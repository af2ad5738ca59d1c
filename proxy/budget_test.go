package proxy_test

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// from is a client with an address of its own.
func (r *rig) from(addr string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: pace(15 * time.Second)}
}

// limits.clientMisses is one address's: another is served meanwhile, whatever
// the first one says of itself.
func TestAddressBudget(t *testing.T) {
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 5 } })
	greedy, other := r.from("127.0.0.2"), r.from("127.0.0.3")
	ask := func(client *http.Client, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "User-Agent"} {
			req.Header.Set(name, "192.0.2."+strconv.Itoa(int(random(1)[0])))
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	image := r.signed("v1")
	for i := range 40 {
		status, after := ask(greedy, manifests("prod/app", digest.FromString(fmt.Sprint(i))))
		if i < 5 && status != 404 || i >= 5 && status != 429 {
			t.Fatalf("miss %d: %d", i, status)
		}
		if n, err := strconv.Atoi(after); status == 429 && (err != nil || n < 1 || n > 60) {
			t.Fatalf("Retry-After %q", after)
		}
	}
	if n := r.reg.Count(hostile.Is(hostile.Manifests)); n != 5 {
		t.Errorf("%d requests upstream, want 5", n)
	}
	if status, _ := ask(other, manifests("prod/app", "v1")); status != 200 {
		t.Errorf("another address: %d", status)
	}
	for range 10 { // what memory answers costs nothing
		if status, _ := ask(greedy, manifests("prod/app", image.Digest)); status != 200 {
			t.Errorf("what memory has: %d", status)
		}
	}
}

// Listings are asked of the upstream each time: they are misses too.
func TestListingBudget(t *testing.T) {
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 5 } })
	for _, path := range []string{"tags/list", "referrers/" + digest.FromString("x").String()} {
		r.reg.Forget()
		for range 20 {
			r.get("/v2/reg.example/prod/app/" + path)
		}
		if n := len(r.reg.Requests()); n > 10 {
			t.Errorf("%s: a client that may miss 5 times a minute caused %d requests upstream", path, n)
		}
	}
}

// A 404 that memory answers asks no upstream, and is no miss.
func TestRepeatedMissingTag(t *testing.T) {
	r := newRig(t, func(o *options) { o.limits = func(l *limits) { l.ClientMisses = 10 } })
	r.get(manifests("prod/app", "gone")).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	time.Sleep(20 * time.Millisecond)
	for i := range 20 {
		if g := r.get(manifests("prod/app", "gone")); g.status != 404 {
			t.Fatalf("asked again %d times: %d, after %d requests upstream", i+1, g.status, len(r.reg.Requests()))
		}
	}
}
