package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify/facts"
)

// loses puts an empty state of so many bytes in place, and forgets all else.
func (r *rig) loses(maxBytes int64) {
	r.t.Helper()
	store, err := facts.OpenBolt(r.t.TempDir(), maxBytes)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = store.Close() })
	r.store = store
	r.restart()
}

// multi pushes a signed index of n unsigned images.
func (r *rig) multi(tag string, n int) (index digest.Digest, children []hostile.Image) {
	list := make([]digest.Digest, n)
	for i := range list {
		children = append(children, r.reg.PushImage("prod/app", ""))
		list[i] = children[i].Digest
	}
	index = r.reg.PushIndex("prod/app", tag, list...)
	r.reg.Sign("prod/app", index, r.key)
	return index, children
}

// A runtime that has an image's manifests in its own store asks for the tag by
// HEAD and then for layers. That pull works whatever the gate has forgotten.
func TestLostFacts(t *testing.T) {
	t.Parallel()

	t.Run("index", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		_, children := r.multi("v1", 3)
		r.get(manifests("prod/app", "v1"))
		r.loses(64 << 20)

		r.head(manifests("prod/app", "v1")).served(t, nil)
		for _, child := range children {
			for _, d := range append([]digest.Digest{child.Config}, child.Layers...) {
				r.get(blobs("prod/app", d)).served(t, r.reg.Blob("prod/app", d))
			}
		}
		r.restart() // what was found is remembered
		r.reg.On(hostile.Status(http.StatusServiceUnavailable).At(hostile.Is(hostile.Manifests)))
		if g := r.get(blobs("prod/app", children[0].Layers[0])); g.status == http.StatusForbidden {
			t.Errorf("what was found is forgotten: %d %s", g.status, g.body)
		}
	})

	t.Run("index in an index", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		child := r.reg.PushImage("prod/app", "")
		inner := r.reg.PushIndex("prod/app", "", child.Digest)
		outer := r.reg.PushIndex("prod/app", "v1", inner)
		r.reg.Sign("prod/app", outer, r.key)

		r.head(manifests("prod/app", "v1")).served(t, nil)
		r.get(blobs("prod/app", child.Layers[0])).served(t, r.reg.Blob("prod/app", child.Layers[0]))
	})

	t.Run("image", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		image := r.signed("v1")
		r.get(manifests("prod/app", "v1"))
		r.loses(64 << 20)

		r.head(manifests("prod/app", "v1")).served(t, nil)
		r.get(blobs("prod/app", image.Layers[0])).served(t, r.reg.Blob("prod/app", image.Layers[0]))
	})

	t.Run("many platforms", func(t *testing.T) { // it cannot tell before it has looked at all
		t.Parallel()
		r := newRig(t)
		_, children := r.multi("v1", 12)
		r.head(manifests("prod/app", "v1")).served(t, nil)
		last := children[11].Layers[0]

		r.get(blobs("prod/app", last)).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
		for range 100 { // memory takes what it is given a little later
			if g := r.get(blobs("prod/app", last)); g.status != http.StatusServiceUnavailable {
				g.served(t, r.reg.Blob("prod/app", last))
				return
			}
		}
		t.Error("the last platform's layer is never found")
	})

	t.Run("platforms that are not there", func(t *testing.T) { // as in a mirror of some
		t.Parallel()
		r := newRig(t)
		child := r.reg.PushImage("prod/app", "")
		list := []digest.Digest{}
		for i := range 5 {
			list = append(list, digest.FromString(fmt.Sprint("gone", i)))
		}
		index := r.reg.PushIndex("prod/app", "", append(list, child.Digest)...)

		typed := `"mediaType":"` + hostile.ImageType + `"`
		body := strings.ReplaceAll(string(r.reg.Manifest("prod/app", index)), `"mediaType":""`, typed)
		index = r.reg.PushRaw("prod/app", "v1", hostile.IndexType, []byte(body))
		r.reg.Sign("prod/app", index, r.key)
		r.head(manifests("prod/app", "v1")).served(t, nil)
		r.get(blobs("prod/app", child.Layers[0])).served(t, r.reg.Blob("prod/app", child.Layers[0]))
	})

	t.Run("junk", func(t *testing.T) { // which another repository is full of
		t.Parallel()
		r := newRig(t)
		r.loses(1 << 20)
		_, children := r.multi("v1", 1)
		r.get(manifests("prod/app", "v1"))
		r.get(manifests("prod/app", children[0].Digest)).served(t, children[0].Manifest)

		for range 60 {
			d := r.reg.PushRaw("open/junk", "", hostile.ImageType, junk(100))
			if g := r.get(manifests("open/junk", d)); g.status != http.StatusOK {
				t.Fatalf("junk: %d %s", g.status, g.body)
			}
		}
		r.restart()
		r.reg.Forget()
		r.get(blobs("prod/app", children[0].Layers[0])).served(t, r.reg.Blob("prod/app", children[0].Layers[0]))
		manifest := func(q hostile.Request) bool {
			return q.Kind == hostile.Manifests && q.Reference == children[0].Digest.String()
		}
		if n := r.reg.Count(manifest); n > 0 {
			t.Error("its manifest was forgotten")
		}
	})
}

// junk is an image of that many layers, none of which exists.
func junk(layers int) []byte {
	var b strings.Builder
	descriptor := func() string {
		return `{"mediaType":"x","digest":"` + digest.FromBytes(random(8)).String() + `","size":2}`
	}
	b.WriteString(`{"schemaVersion":2,"mediaType":"` + hostile.ImageType + `","config":` + descriptor() + `,"layers":[`)
	for i := range layers {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(descriptor())
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// What is looked for from an index down is admitted by the index, as ever, and
// costs a bounded number of questions, which are the client's.
func TestDescent(t *testing.T) {
	t.Parallel()

	t.Run("refused index", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		child := r.reg.PushImage("prod/app", "")
		index := r.reg.PushIndex("prod/app", "v1", child.Digest)
		r.pulled(index) // when it was allowed

		r.refusedAt("a layer of what is refused now", blobs("prod/app", child.Layers[0]))
		r.refusedAt("its config", blobs("prod/app", child.Config))
	})

	t.Run("children of their own", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withPolicies(
			`[{name: prod, images: ["reg.example/prod/**"], authorities: [{key: KEY}], children: own}]`))
		_, children := r.multi("v1", 1)

		r.head(manifests("prod/app", "v1")).served(t, nil)
		r.refusedAt("a layer of an unsigned child", blobs("prod/app", children[0].Layers[0]))
	})

	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.multi("v1", 3)
		r.head(manifests("prod/app", "v1")).served(t, nil)

		for i := range 20 {
			r.reg.Forget()
			stranger := digest.FromString(fmt.Sprint("stranger", i))
			r.get(blobs("prod/app", stranger)).refused(t, http.StatusForbidden, "DENIED")
			if n := len(r.reg.Requests()); i > 5 && n > 0 {
				t.Errorf("%d requests for a blob that nothing lists", n)
			}
		}
	})

	t.Run("bound", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.multi("v1", 40)
		r.head(manifests("prod/app", "v1")).served(t, nil)
		r.reg.Forget()

		r.get(blobs("prod/app", digest.FromString("stranger"))).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
		if n := len(r.reg.Requests()); n > 8 {
			t.Errorf("%d requests for one blob", n)
		}
	})

	t.Run("quota", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withMisses(30))
		_, children := r.multi("v1", 3)
		r.head(manifests("prod/app", "v1")).served(t, nil)
		greedy := r.from("127.0.0.2")
		r.spent(greedy)
		r.reg.Forget()

		status, err := r.asks(t.Context(), greedy, http.MethodGet, blobs("prod/app", children[0].Layers[0]))
		if err != nil || status != http.StatusTooManyRequests || len(r.reg.Requests()) > 0 {
			t.Errorf("a client without a question left: %d, %v, %v", status, err, r.reg.Requests())
		}
	})

	t.Run("registry away", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		_, children := r.multi("v1", 3)
		r.head(manifests("prod/app", "v1")).served(t, nil)
		r.reg.On(hostile.Status(http.StatusServiceUnavailable))

		r.get(blobs("prod/app", children[0].Layers[0])).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	})
}
