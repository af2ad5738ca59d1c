package proxy_test

import (
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

const openProd = `[{name: prod, images: ["reg.example/prod/**"], static: allow}]`

// pulled has the gate admit manifests of prod/app whatever they are, so that it
// learns their parts, and begins anew under the standard policies: all of them
// are unsigned.
func (r *rig) pulled(list ...digest.Digest) {
	r.t.Helper()
	r.reload(withPolicies(openProd))
	var all sync.WaitGroup
	for _, d := range list {
		all.Go(func() {
			g, err := r.try(r.t.Context(), http.MethodGet, manifests("prod/app", d))
			if err != nil || g.status != http.StatusOK {
				r.t.Errorf("%s: status %d, %v", d, g.status, err)
			}
		})
	}
	all.Wait()
	r.options.policies = standard
	r.restart()
	r.reg.Forget()
}

// Asking the parents of a part is bounded. A gate that has not asked all of
// them cannot tell: it neither serves the part nor denies it.
func TestParentsAreBounded(t *testing.T) {
	t.Parallel()
	layer := random(100)
	shared := digest.FromBytes(layer)

	t.Run("few", func(t *testing.T) { // the control: each is asked, each is refused
		t.Parallel()
		r := newRig(t)
		r.pulled(r.images(32, layer)...)

		r.get(blobs("prod/app", shared)).refused(t, http.StatusForbidden, "DENIED")
	})

	t.Run("many images of one layer", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.pulled(r.images(40, layer)...)

		r.get(blobs("prod/app", shared)).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
		if n := r.reg.Count(hostile.SignatureTags); n != 32 {
			t.Errorf("%d parents were asked, want 32", n)
		}
	})

	t.Run("many indexes of many images", func(t *testing.T) { // 12 + 12*30 questions
		t.Parallel()
		r := newRig(t)
		images := r.images(12, layer)
		all := slices.Clone(images)
		for range 30 {
			other := digest.FromBytes(random(8)) // no two indexes are the same
			all = append(all, r.reg.PushIndex("prod/app", "", append(slices.Clone(images), other)...))
		}
		r.pulled(all...)

		r.get(blobs("prod/app", shared)).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	})

	t.Run("a signed one beyond the bound", func(t *testing.T) { // which memory knows costs no question
		t.Parallel()
		r := newRig(t)
		images := r.images(40, layer)
		r.reg.Sign("prod/app", images[0], r.key)
		r.pulled(images...)
		r.get(manifests("prod/app", images[0])).served(t, r.reg.Manifest("prod/app", images[0]))

		r.get(blobs("prod/app", shared)).served(t, layer)
	})
}

// images pushes n unsigned images that share layer.
func (r *rig) images(n int, layer []byte) []digest.Digest {
	list := make([]digest.Digest, 0, n)
	for range n {
		list = append(list, r.reg.PushImage("prod/app", "", layer).Digest)
	}
	return list
}

// A part that a policy of its own enforces is no part of what another policy
// only warns of: a warning is not a signature.
func TestWarnedParent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	child := r.reg.PushImage("prod/app", "")
	index := r.reg.PushIndex("prod/app", "multi", child.Digest)
	const warn = `{name: prod, images: ["reg.example/prod/**"], mode: warn, authorities: [{key: KEY}]}`
	strict := `{name: strict, digests: ["` + child.Digest.String() + `"], authorities: [{key: KEY}]}`

	r.reload(withPolicies(`[` + strict + `, ` + warn + `]`))
	r.get(manifests("prod/app", "multi")).warned(t, "the index")
	r.refusedAt("a child of an index with a warning", manifests("prod/app", child.Digest))
	r.refusedAt("the child as a blob", blobs("prod/app", child.Digest))

	r.reload(withPolicies(`[` + warn + `]`))
	r.get(manifests("prod/app", child.Digest)).warned(t, "the child without a policy of its own")

	r.reload(withPolicies(`[{name: open, digests: ["` + index.String() + `"], static: allow}, ` + strict + `]`))
	r.get(manifests("prod/app", child.Digest)).served(t, child.Manifest) // by an index that is allowed
}
