package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
)

// denying is a list of policies that denies digests in writing before the rest.
func denying(rest string, list ...digest.Digest) func(*options) {
	names := make([]string, len(list))
	for i, d := range list {
		names[i] = fmt.Sprintf("%q", d)
	}
	return withPolicies("[{name: known-bad, digests: [" + strings.Join(names, ", ") + "], static: deny}" + rest + "]")
}

// A written denial of a digest reaches its parts, whatever would admit them.
func TestDeniedParts(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		rest   string
		mode   policy.Mode
		action string
	}{
		"signatures": {rest: `, {name: ours, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}`},
		"policy in warn": {
			rest: `, {name: ours, images: ["reg.example/prod/**"], mode: warn, authorities: [{key: KEY}]}`,
		},
		"gate in warn": {
			rest: `, {name: ours, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}`,
			mode: policy.Warn,
		},
		"static allow":  {rest: `, {name: ours, images: ["reg.example/prod/**"], static: allow}`},
		"default allow": {action: "allow"},
		"default warn":  {action: "warn"},
	} {
		for when, pulled := range map[string]bool{"pulled before": true, "new": false} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, withMode(row.mode), func(o *options) { o.action = row.action })
				child, single := r.signed(""), r.signed("single")
				index := r.reg.PushIndex("prod/app", "multi", child.Digest)
				r.reg.Sign("prod/app", index, r.key)
				fine := r.signed("fine")
				parts := []string{
					manifests("prod/app", child.Digest),
					blobs("prod/app", child.Digest),
					blobs("prod/app", child.Config),
					blobs("prod/app", child.Layers[0]),
					blobs("prod/app", single.Config),
					blobs("prod/app", single.Layers[1]),
					manifests("prod/app", digest.SHA512.FromBytes(child.Manifest)),
				}
				if pulled {
					r.reload(withPolicies("[" + strings.TrimPrefix(row.rest, ", ") + "]"))
					for _, reference := range []string{"multi", child.Digest.String(), "single"} {
						if g := r.get(manifests("prod/app", reference)); g.status != http.StatusOK {
							t.Fatalf("%s: %d %s", reference, g.status, g.body)
						}
					}
				}

				r.reload(denying(row.rest, index, single.Digest))
				for range 2 {
					r.refusedAt("the index", manifests("prod/app", "multi"))
					r.refusedAt("the image", manifests("prod/app", "single"))
					for _, path := range parts {
						r.refusedAt("a part", path)
					}
					r.restart() // and with nothing but the state
				}
				if g := r.get(manifests("prod/app", "fine")); g.status != http.StatusOK {
					t.Errorf("another image: %d %s", g.status, g.body)
				}
				if g := r.get(blobs("prod/app", fine.Layers[0])); g.status != http.StatusOK {
					t.Errorf("a layer of another image: %d %s", g.status, g.body)
				}
			})
		}
	}
}

// A client may ask for parts first, of manifests that were never asked for here.
func TestDeniedPartsFirst(t *testing.T) {
	t.Parallel()
	const rest = `, {name: ours, images: ["reg.example/prod/**"], static: allow}`
	for name, ask := range map[string]func(child, single hostile.Image) string{
		"config of an image": func(_, single hostile.Image) string { return blobs("prod/app", single.Config) },
		"layer of an image":  func(_, single hostile.Image) string { return blobs("prod/app", single.Layers[0]) },
		"layer of a child":   func(child, _ hostile.Image) string { return blobs("prod/app", child.Layers[0]) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			child, single := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			index := r.reg.PushIndex("prod/app", "multi", child.Digest)
			r.reload(denying(rest, index, single.Digest))

			r.refusedAt(name, ask(child, single))
		})
	}
}

// What a manifest lists that is not denied is served: images share layers, and
// indexes share images.
func TestSharedPartsOfDenied(t *testing.T) {
	t.Parallel()
	const rest = `, {name: ours, images: ["reg.example/prod/**"], static: allow}`
	base := random(1000)

	t.Run("layer", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		bad, good := r.reg.PushImage("prod/app", "bad", base, random(100)), r.reg.PushImage("prod/app", "good", base)
		r.reload(denying(rest, bad.Digest))

		r.refusedAt("the denied image", manifests("prod/app", "bad"))
		r.refusedAt("a layer that only it lists, as far as is known", blobs("prod/app", bad.Layers[0]))
		r.get(manifests("prod/app", "good")).served(t, good.Manifest)
		r.get(blobs("prod/app", good.Layers[0])).served(t, base)
		r.refusedAt("a layer of its own", blobs("prod/app", bad.Layers[1]))
	})

	t.Run("child", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		child := r.reg.PushImage("prod/app", "")
		bad := r.reg.PushIndex("prod/app", "bad", child.Digest, r.reg.PushImage("prod/app", "").Digest)
		r.reg.PushIndex("prod/app", "good", child.Digest)
		r.reload(denying(rest, bad))

		r.refusedAt("the denied index", manifests("prod/app", "bad"))
		r.refusedAt("its child", manifests("prod/app", child.Digest))
		r.get(manifests("prod/app", "good"))
		r.get(manifests("prod/app", child.Digest)).served(t, child.Manifest)
		r.get(blobs("prod/app", child.Layers[0])).served(t, r.reg.Blob("prod/app", child.Layers[0]))
	})

	t.Run("repository", func(t *testing.T) { // facts are of one repository
		t.Parallel()
		r := newRig(t)
		bad := r.reg.PushImage("prod/app", "bad", base)
		r.reg.PushBlob("prod/other", base)
		other := r.reg.PushImage("prod/other", "good", base)
		r.reload(denying(rest, bad.Digest))

		r.refusedAt("the denied image", manifests("prod/app", "bad"))
		r.get(blobs("prod/other", other.Layers[0])).served(t, base)
	})

	t.Run("lifted", func(t *testing.T) { // with the denial
		t.Parallel()
		r := newRig(t)
		bad := r.reg.PushImage("prod/app", "bad", base)
		r.reload(denying(rest, bad.Digest))
		r.refusedAt("the denied image", manifests("prod/app", "bad"))
		r.refusedAt("its layer", blobs("prod/app", bad.Layers[0]))

		r.reload(denying(rest, digest.FromString("another")))
		r.get(blobs("prod/app", bad.Layers[0])).served(t, base)
	})
}

// The refusal of a part names what it is part of, and the policy that denies that.
func TestDeniedPartMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	child := r.reg.PushImage("prod/app", "")
	index := r.reg.PushIndex("prod/app", "multi", child.Digest)
	r.reload(denying(`, {name: ours, images: ["reg.example/prod/**"], static: allow}`, index))
	r.get(manifests("prod/app", "multi"))

	message := r.get(manifests("prod/app", child.Digest)).refused(t, http.StatusForbidden, "DENIED").Errors[0].Message

	for _, want := range []string{
		`refused by policy "known-bad"`,
		"it is part of " + index.String(),
		"this digest is denied",
	} {
		if !strings.Contains(message, want) {
			t.Errorf("%q does not say %q", message, want)
		}
	}
}

// When the gate cannot tell whether a part is denied in writing, no mode admits
// it.
func TestDeniedPartUnknown(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMode(policy.Warn))
	bad := r.reg.PushImage("prod/app", "")
	r.reload(denying(`, {name: ours, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}`, bad.Digest))
	r.reg.On(hostile.Status(http.StatusServiceUnavailable).At(hostile.Is(hostile.Manifests)))

	r.get(blobs("prod/app", bad.Layers[0])).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
}

// What was pulled by another name is denied by both.
func TestDeniedByOtherName(t *testing.T) {
	t.Parallel()
	const rest = `, {name: ours, images: ["reg.example/prod/**"], static: allow}`
	r := newRig(t, withPolicies("["+strings.TrimPrefix(rest, ", ")+"]"))
	child := r.reg.PushImage("prod/app", "")
	index := r.reg.PushIndex("prod/app", "multi", child.Digest)
	body := r.reg.Manifest("prod/app", index)
	r.get(manifests("prod/app", digest.SHA512.FromBytes(body))).served(t, body)
	r.get(manifests("prod/app", child.Digest)).served(t, child.Manifest)

	r.reload(denying(rest, index))
	r.refusedAt("a child of the index by its other name", manifests("prod/app", child.Digest))
	r.refusedAt("a layer of it", blobs("prod/app", child.Layers[0]))
}
