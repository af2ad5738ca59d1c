package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
)

const warnProd = `
- {name: prod, images: ["reg.example/prod/**"], mode: warn, authorities: [{name: release, key: KEY}]}
- {name: closed, images: ["reg.example/closed/**"], static: deny}
- {name: strict, images: ["reg.example/strict/**"], authorities: [{name: release, key: KEY}]}
`

// warned checks an admission under warn.
func (g got) warned(t *testing.T, what string, words ...string) {
	t.Helper()
	if g.status != http.StatusOK {
		t.Errorf("%s: status %d: %s", what, g.status, g.body)
		return
	}
	w := g.header.Get("Warning")
	if !strings.HasPrefix(w, `299 - "`) || !strings.HasSuffix(w, `"`) || g.header.Get("Pullgate-Decision") == "" {
		t.Errorf("%s: Warning %q, decision %q", what, w, g.header.Get("Pullgate-Decision"))
	}
	for _, word := range words {
		if !strings.Contains(w, word) {
			t.Errorf("%s: Warning %q lacks %q", what, w, word)
		}
	}
}

// Warn mode admits and says so.
func TestWarnedImage(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*options){
		"policy": withPolicies(warnProd),
		"gate":   withMode(policy.Warn),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, change)
			bad, good := r.reg.PushImage("prod/app", "bad"), r.signed("good")
			index := r.reg.PushIndex("prod/app", "multi", bad.Digest)
			r.get(blobs("prod/app", bad.Layers[0])).warned(t, "an unknown part")
			for _, path := range []string{
				manifests("prod/app", "bad"),
				manifests("prod/app", bad.Digest),
				manifests("prod/app", "multi"),
				manifests("prod/app", index),
			} {
				r.head(path).warned(t, path, "refused by policy", "no signature found")
				r.get(path).warned(t, path, "refused by policy", "no signature found")
			}
			g := r.get(blobs("prod/app", bad.Layers[0]))
			g.warned(t, "a layer")
			g.served(t, r.reg.Blob("prod/app", bad.Layers[0]))
			g = r.get(manifests("prod/app", "good"))
			g.served(t, good.Manifest)
			if g.header.Get("Warning") != "" {
				t.Errorf("a warning about a signed image: %s", g.header.Get("Warning"))
			}
			outcomes := map[any]int{}
			for _, line := range r.log.lines(t) {
				outcomes[line["outcome"]]++
			}
			if outcomes["warned"] != 10 || outcomes["allowed"] != 1 || outcomes["denied"] != 0 {
				t.Errorf("outcomes %v", outcomes)
			}
		})
	}
}

func TestWarnOfOnePolicy(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(warnProd))
	for _, repo := range []string{"strict/app", "closed/app", "unlisted/app"} {
		image := r.reg.PushImage(repo, "v1")
		r.refusedAt(repo, manifests(repo, "v1"))
		r.refusedAt(repo, blobs(repo, image.Layers[0]))
	}
	r.reload(func(o *options) { o.action = "warn" })
	r.get(manifests("unlisted/app", "v1")).warned(t, "defaultAction")
	r.refusedAt("closed", manifests("closed/app", "v1"))
	r.refusedAt("strict", manifests("strict/app", "v1"))
}

// Nothing weakens a written-out static deny: section 4 and 5.
func TestWarnedDeny(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMode(policy.Warn))
	image := r.reg.PushImage("closed/app", "v1")
	r.reg.Sign("closed/app", image.Digest, r.key)
	paths := []string{
		manifests("closed/app", "v1"),
		manifests("closed/app", image.Digest),
		blobs("closed/app", image.Digest),
		blobs("closed/app", image.Config),
		blobs("closed/app", image.Layers[0]),
		"/v2/reg.example/closed/app/tags/list",
		"/v2/reg.example/closed/app/referrers/" + image.Digest.String(),
	}
	for _, path := range paths {
		r.refusedAt("static: deny under warn", path)
	}
	r.reg.On(hostile.BrokenSignatureTag(), hostile.NoReferrers(500))
	r.restart()
	for _, path := range paths {
		r.refusedAt("static: deny under warn, without an upstream's signatures", path)
	}
}

// The gate gives up asking about a layer that very many images share: it could
// not be verified. Warn admits such a layer, but not from a repository that is
// denied in writing.
func TestWarnedSharedLayer(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMode(policy.Warn))
	layer := random(100)
	shared := blobs("prod/app", digest.FromBytes(layer))
	for range 40 { // more than are asked about for one part
		image := r.reg.PushImage("prod/app", "", layer)
		r.get(manifests("prod/app", image.Digest)).warned(t, "an image")
	}

	r.restart()
	r.get(shared).warned(t, "the layer, with nothing in memory")

	r.reload(withPolicies(`[{name: closed, images: ["reg.example/prod/**"], static: deny}]`))
	r.restart()
	if g := r.get(shared); g.status != http.StatusForbidden && g.status != http.StatusServiceUnavailable {
		t.Errorf("the layer of a denied repository: status %d: %.100q", g.status, g.body)
	}
}

// One digest is denied by name after its image was pulled: its layers are parts
// of what is denied, and warn does not bring them back. An index is denied in
// the same way, by each of its names.
func TestWarnedDenyOfDigest(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMode(policy.Warn))
	image := r.signed("v1")
	index := r.reg.PushIndex("prod/app", "multi", r.reg.PushImage("prod/app", "").Digest)
	r.reg.Sign("prod/app", index, r.key)
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.get(blobs("prod/app", image.Layers[0])).served(t, r.reg.Blob("prod/app", image.Layers[0]))
	r.get(manifests("prod/app", "multi")).served(t, r.reg.Manifest("prod/app", index))

	r.reload(withPolicies(fmt.Sprintf(`
- {name: bad-ones, digests: [%q, %q], static: deny}
- {name: prod, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}
`, image.Digest, index)))

	r.refusedAt("the denied image", manifests("prod/app", "v1"))
	r.refusedAt("the denied image", manifests("prod/app", image.Digest))
	r.refusedAt("the denied image as a blob", blobs("prod/app", image.Digest))
	r.refusedAt("a layer of the denied image alone", blobs("prod/app", image.Layers[0]))
	r.refusedAt("the config of the denied image", blobs("prod/app", image.Config))
	r.refusedAt("the denied index", manifests("prod/app", "multi"))
	r.refusedAt("the denied index", manifests("prod/app", index))
	r.refusedAt("the denied index as a blob", blobs("prod/app", index))
	other := digest.SHA512.FromBytes(r.reg.Manifest("prod/app", index))
	r.refusedAt("the denied index by sha512", manifests("prod/app", other))
}

// A layer of two images that are refused, one by name and one by a policy that
// enforces. Warn, which holds for the rest of the repository, admits it for
// neither.
func TestWarnedLayerOfRefusedImages(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][]int{"denied one first": {0, 1}, "denied one last": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, withPolicies(warnProd))
			layer := random(1000)
			images := []hostile.Image{
				r.reg.PushImage("prod/app", "", layer, random(10)),
				r.reg.PushImage("prod/app", "", layer, random(20)),
			}
			for _, i := range order {
				r.get(manifests("prod/app", images[i].Digest)).warned(t, name, "no signature")
			}

			r.reload(withPolicies(fmt.Sprintf(`
- {name: bad, digests: [%q], static: deny}
- {name: strict, digests: [%q], authorities: [{key: KEY}]}
- {name: prod, images: ["reg.example/prod/**"], mode: warn, authorities: [{key: KEY}]}
`, images[0].Digest, images[1].Digest)))
			r.refusedAt("the layer of both", blobs("prod/app", images[0].Layers[0]))
		})
	}
}

// A verification that could not be done admits under warn, whatever kept it
// from being done; what is served is still resolved once and hashed.
func TestWarnedUnverified(t *testing.T) {
	t.Parallel()
	signatures := func(q hostile.Request) bool {
		return hostile.SignatureTags(q) || q.Kind == hostile.Referrers || q.Kind == hostile.Blobs
	}
	for _, trick := range []hostile.Trick{
		hostile.Status(500),
		hostile.StallAtOnce,
		hostile.Truncate,
		hostile.Gzip,
		hostile.LieAboutDigest.At(hostile.SignatureTags),
		hostile.TooManyRequests("60"),
		hostile.Status(408),
		hostile.Status(451),
	} {
		t.Run(trick.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, withPolicies(warnProd), ifStalling(trick))
			image := r.signed("v1")
			r.reg.On(trick.At(signatures))
			for _, reference := range []string{"v1", image.Digest.String()} {
				g := r.get(manifests("prod/app", reference))
				g.warned(t, reference, "could not be verified")
			}
			r.mend()
			r.clock.advance(time.Minute) // a 429 is obeyed as long as it asks for
			layer := r.get(blobs("prod/app", image.Layers[0]))
			layer.served(t, r.reg.Blob("prod/app", image.Layers[0]))
			found := false
			for _, line := range r.log.lines(t) {
				found = found || line["outcome"] == "warned_unverified"
			}
			if !found {
				t.Errorf("no outcome warned_unverified: %s", r.log)
			}
		})
	}
}

// Warn forgives policies, not bytes.
func TestWarnedWrongBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMode(policy.Warn))
	layer := random(1000)
	image := r.reg.PushImage("prod/app", "v1", layer)
	r.reg.On(hostile.LieAboutDigest)
	r.get(manifests("prod/app", "v1")).refused(t, http.StatusBadGateway, "UNAVAILABLE")
	r.mend()
	r.reg.On(hostile.OtherBytes(hostile.ImageType, []byte("{}")).At(hostile.For(image.Digest)))
	r.get(manifests("prod/app", image.Digest)).refused(t, http.StatusBadGateway, "UNAVAILABLE")
	r.mend()
	r.reg.PushRaw("prod/app", "nonsense", hostile.ImageType, []byte(`{"schemaVersion":1}`))
	r.get(manifests("prod/app", "nonsense")).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
	r.get(manifests("prod/app", "missing")).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
	r.get(blobs("prod/app", digest.FromString("missing"))).refused(t, http.StatusNotFound, "BLOB_UNKNOWN")
	r.reg.On(hostile.FlipBlob)
	if g, err := r.try(t.Context(), http.MethodGet, blobs("prod/app", image.Layers[0])); err == nil && g.err == nil {
		t.Errorf("a flipped layer passed clean: %d", g.status)
	}
}

// The header stays one header whatever the names are (distribution spec,
// "Warnings"): at most 4096 bytes of quoted text.
func TestWarningHeader(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(`
- {name: 'a "quoted" \ é name', images: ["reg.example/prod/**"], mode: warn, authorities: [{name: 'k', key: KEY}]}
`))
	image := r.reg.PushImage("prod/app", "v1")
	var layers []hostile.Layer
	for range 20 {
		payload := strings.Replace(
			string(hostile.Payload("prod/app", image.Digest)),
			image.Digest.String(),
			`\"\r\nX-Evil: 1\"\u2028`+strings.Repeat("é", 500)+random16(),
			1,
		)
		layers = append(layers, hostile.SignatureLayer([]byte(payload), r.key))
	}
	r.reg.PushArtifact("prod/app", hostile.SignatureTag(image.Digest), hostile.Artifact{Layers: layers})
	g := r.get(manifests("prod/app", "v1"))
	g.warned(t, "v1", "quoted", "for another image")
	w := g.header.Get("Warning")
	if len(w) > 4096 || len(g.header.Values("Warning")) != 1 || g.header.Get("X-Evil") != "" ||
		strings.Trim(w, printable) != "" {
		t.Errorf("%d bytes: %q", len(w), w)
	}
}

var printable = func() string {
	var b strings.Builder
	for c := ' '; c <= '~'; c++ {
		b.WriteRune(c)
	}
	return b.String()
}()

func random16() string { return digest.FromBytes(random(16)).Encoded()[:16] }
