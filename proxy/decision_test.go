package proxy_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/test/hostile"
)

// record is where a rig's decisions go.
type record struct {
	mu   sync.Mutex
	list []proxy.Decision
}

func (r *record) take(d proxy.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, d)
}

// drain are the decisions since the last call.
func (r *record) drain() []proxy.Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = nil
	return list
}

// one is the only decision since the last drain.
func (r *rig) one(what string) proxy.Decision {
	r.t.Helper()
	list := r.record.drain()
	if len(list) != 1 {
		r.t.Fatalf("%s: %d decisions, want one: %+v", what, len(list), list)
	}
	return list[0]
}

// Every answer about a manifest is a decision; it says by which index a
// platform got in, or did not.
func TestManifestDecision(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	child := r.reg.PushImage("prod/app", "")
	index := r.reg.PushIndex("prod/app", "v1", child.Digest)
	r.reg.Sign("prod/app", index, r.key)

	g := r.get(manifests("prod/app", "v1"), "User-Agent", "docker/29")
	d := r.one("an index by tag")
	if d.Outcome != "allowed" || d.Status != 200 || d.Kind != "manifest" || d.Method != "GET" ||
		d.Image != "reg.example/prod/app" || d.Reference != "v1" || d.Digest != index.String() || d.Parent != "" ||
		d.Policy != "prod" || d.Signer == "" || d.Cache || d.Error != "" ||
		d.Agent != "docker/29" || d.Client != "127.0.0.1" || d.ID != g.header.Get("Pullgate-Decision") ||
		d.Time.IsZero() || d.Took <= 0 || d.Upstream <= 0 {
		t.Errorf("an index by tag: %+v", d)
	}

	r.head(manifests("prod/app", child.Digest))
	d = r.one("a platform")
	if d.Outcome != "allowed" || d.Method != "HEAD" ||
		d.Digest != child.Digest.String() || d.Parent != index.String() {
		t.Errorf("a platform: %+v", d)
	}
	for _, b := range append(child.Layers, child.Config) {
		r.get(blobs("prod/app", b))
	}
	if list := r.record.drain(); len(list) != 0 {
		t.Errorf("blobs of an allowed image: %+v", list)
	}

	r.key = newKey(t)
	r.reload()
	r.head(manifests("prod/app", child.Digest))
	d = r.one("a platform whose index is refused now")
	if d.Outcome != "denied" || d.Status != 403 || d.Parent != index.String() || len(d.Reasons) == 0 {
		t.Errorf("a platform whose index is refused now: %+v", d)
	}
	g = r.get(blobs("prod/app", child.Layers[0]))
	d = r.one("its layer")
	if d.Outcome != "denied" || d.Kind != "blob" || d.Parent != child.Digest.String() ||
		d.ID != g.header.Get("Pullgate-Decision") {
		t.Errorf("its layer: %+v", d)
	}

	r.get(blobs("prod/app", digest.FromString("in no image")))
	d = r.one("a blob of nothing")
	if d.Outcome != "unknown" || d.Status != 403 || !d.Unknown || d.Parent != "" {
		t.Errorf("a blob of nothing: %+v", d)
	}
	r.get(manifests("closed/app", "v1"))
	d = r.one("a closed repository")
	if d.Outcome != "denied" || d.Digest != "" || d.Policy != "closed" || d.Reference != "v1" {
		t.Errorf("a closed repository: %+v", d)
	}
}

// What could not be told is recorded as that, with the cause that the client is
// not told.
func TestErrorDecision(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.reg.On(
		hostile.Status(http.StatusInternalServerError).At(hostile.For(image.Digest)),
		hostile.Status(http.StatusInternalServerError).At(hostile.For("v1")),
	)
	g := r.get(manifests("prod/app", "v1"))
	d := r.one("a registry that fails")
	if d.Outcome != "error" || d.Status != g.status || g.status < 500 || d.Error == "" || d.Digest != "" ||
		d.ID != g.header.Get("Pullgate-Decision") {
		t.Errorf("a registry that fails: %d, %+v", g.status, d)
	}
	r.get(manifests("prod/absent", "v2"))
	if d := r.one("no such image"); d.Outcome != "error" || d.Status != 404 {
		t.Errorf("no such image: %+v", d)
	}
	for _, path := range []string{
		"/v2/",
		"/v2/prod/app/tags/list?ns=reg.example",
		"/v2/reg.example/prod/app/manifests/a%00b",
		"/v2/reg.example/prod/app/manifests/" + strings.Repeat("x", 300),
	} {
		r.get(path)
	}
	if list := r.record.drain(); len(list) != 0 {
		t.Errorf("what is no question about an image: %+v", list)
	}
}

// Nothing that a client sends makes a decision large.
func TestDecisionBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.signed("v1")
	r.get("/v2/reg.example/"+strings.Repeat("a/", 100)+"a/manifests/"+strings.Repeat("t", 128),
		"User-Agent", strings.Repeat("Mozilla ", 5000),
		"X-Other", strings.Repeat("x", 5000))
	d := r.one("a talkative client")
	text, err := json.Marshal(d)
	if err != nil || len(text) > 4096 || len(d.Agent) != 256 {
		t.Errorf("%d bytes, agent %d, %v", len(text), len(d.Agent), err)
	}
	before := slices.Clone(d.Reasons)
	r.get(manifests("prod/app", "v1"))
	if !slices.Equal(before, d.Reasons) {
		t.Error("a decision that was handed over has changed")
	}
}

// A request for a registry that the gate does not have is some node's pull that
// went wrong: log and record say whose, and what it asked for.
func TestUnknownUpstreamDecision(t *testing.T) {
	t.Parallel()
	long := "/v2/other.example/" + strings.Repeat("a", 60_000) + "/manifests/v1"
	for name, path := range map[string]string{
		"by path":   "/v2/other.example/app/manifests/v1",
		"by ns":     "/v2/app/manifests/v1?ns=other.example",
		"bare name": "/v2/app/manifests/v1",
		"tags":      "/v2/other.example/app/tags/list",
		"long":      long,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.get(path, "User-Agent", "docker/29").refused(t, http.StatusNotFound, "NAME_UNKNOWN")

			d := r.one(name)
			want := path[:min(len(path), 500)]
			if d.Client != "127.0.0.1" || d.Path != want || d.Agent != "docker/29" || d.Outcome != "error" ||
				d.Status != http.StatusNotFound || d.Kind != "unknown" || d.Image != "" || d.ID == "" {
				t.Errorf("%+v", d)
			}
			lines := r.log.lines(t)
			if len(lines) != 1 || lines[0]["client"] != "127.0.0.1" || lines[0]["path"] != want {
				t.Errorf("logged %v", lines)
			}
		})
	}

	t.Run("malformed", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.get("/v2/reg.example/prod/app/manifests/a%00b").refused(t, http.StatusBadRequest, "NAME_INVALID")
		if list := r.record.drain(); len(list) != 0 {
			t.Errorf("recorded %+v", list)
		}
		lines := r.log.lines(t)
		if len(lines) != 1 || lines[0]["client"] != "127.0.0.1" ||
			lines[0]["path"] != "/v2/reg.example/prod/app/manifests/a%00b" {
			t.Errorf("logged %v", lines)
		}
	})
}
