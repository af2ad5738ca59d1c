package proxy_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// An index under a referrers tag passes unsigned because it is only a list of
// names. One that carries content, or that a policy denies by its digest, is
// judged as any manifest.
func TestFallbackIndex(t *testing.T) {
	t.Parallel()

	t.Run("names", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		subject := r.signed("v1")
		list := r.reg.PushList("prod/app", hostile.FallbackTag(subject.Digest), subject.Digest)

		g := r.get(manifests("prod/app", hostile.FallbackTag(subject.Digest)))

		g.served(t, r.reg.Manifest("prod/app", list))
	})

	const entry = `{"mediaType":%q,"digest":%q,"size":2`
	const mention = `{"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"}`
	for name, text := range map[string]string{
		"content of an entry":     `"manifests":[` + entry + `,"data":"e30="}]`,
		"empty content":           `"manifests":[` + entry + `,"data":""}]`,
		"content of the subject":  `"manifests":[],"subject":` + entry + `,"data":"e30="}`,
		"content after a mention": `"manifests":[` + mention + `,` + entry + `,"data":"e30="}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			subject := r.signed("v1")
			tag := hostile.FallbackTag(subject.Digest)
			text = fmt.Sprintf(text, hostile.ImageType, subject.Digest)
			body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,%s}`, hostile.IndexType, text)
			r.reg.PushRaw("prod/app", tag, hostile.IndexType, []byte(body))

			r.refusedAt(name, manifests("prod/app", tag))
		})
	}

	t.Run("denied digest", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		subject := r.signed("v1")
		tag := hostile.FallbackTag(subject.Digest)
		list := r.reg.PushList("prod/app", tag, r.reg.Attach("prod/app", subject.Digest, r.key))
		r.get(manifests("prod/app", tag)).served(t, r.reg.Manifest("prod/app", list))

		for algorithm, d := range map[string]digest.Digest{
			"sha256": list,
			"sha512": digest.SHA512.FromBytes(r.reg.Manifest("prod/app", list)),
		} {
			r.reload(withPolicies(fmt.Sprintf(`
- {name: bad, digests: [%q], static: deny}
- {name: prod, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}
`, d)))
			r.refusedAt("denied by its "+algorithm, manifests("prod/app", tag))
			r.refusedAt("denied by its "+algorithm, manifests("prod/app", list))
		}
	})
}

// A list of referrers is the registry's word, the subject is the author's: what
// does not name the image as its subject is no referrer of it, whatever it
// holds and wherever it is listed.
func TestReferrerSubject(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		subject func(image, other hostile.Image) digest.Digest
		status  int
	}{
		"the image":     {func(image, _ hostile.Image) digest.Digest { return image.Digest }, http.StatusOK},
		"another image": {func(_, other hostile.Image) digest.Digest { return other.Digest }, http.StatusForbidden},
		"none":          {func(_, _ hostile.Image) digest.Digest { return "" }, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image, other := r.reg.PushImage("prod/app", "v1"), r.reg.PushImage("prod/app", "other")
			layer := hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), r.key)
			artifact := hostile.Artifact{Layers: []hostile.Layer{layer}, Subject: test.subject(image, other)}
			tag := hostile.FallbackTag(image.Digest)

			under := r.reg.PushArtifact("prod/app", "", artifact)
			r.reg.PushList("prod/app", tag, under)
			if g := r.get(manifests("prod/app", "v1")); g.status != test.status {
				t.Errorf("in a list under the referrers tag: %d, want %d: %s", g.status, test.status, g.body)
			}

			r.restart()
			r.reg.PushArtifact("prod/app", tag, artifact)
			if g := r.get(manifests("prod/app", "v1")); g.status != test.status {
				t.Errorf("itself under the referrers tag: %d, want %d: %s", g.status, test.status, g.body)
			}
		})
	}
}
