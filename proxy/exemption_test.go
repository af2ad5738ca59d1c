package proxy_test

import (
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// statement is a DSSE envelope about image, in whose predicate any bytes stand.
func statement(image digest.Digest, content string) []byte {
	claim := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + image.Encoded() +
		`"}}],"predicateType":"x","predicate":{"data":"` + content + `"}}`

	return []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"` +
		base64.StdEncoding.EncodeToString([]byte(claim)) + `","signatures":[{"sig":"eA=="}]}`)
}

// A policy that names digests alone exempts these images, wherever they are. It
// opens no repository: no list, no artifact and nothing else of one.
func TestDigestExemption(t *testing.T) {
	t.Parallel()

	const secret = "of a repository that no policy names"
	const prod = `{name: prod, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}`
	exempting := func(d digest.Digest, images string) string {
		return `[{name: vendor, ` + images + `digests: ["` + d.String() + `"], static: allow}, ` + prod + `]`
	}
	pushed := func(r *rig) (image hostile.Image, paths map[string]string) {
		image = r.reg.PushImage("vendor/app", "v1")
		artifact := r.reg.PushArtifact("vendor/app", "notes", hostile.Artifact{
			Subject: image.Digest,
			Layers: []hostile.Layer{{
				MediaType: "application/vnd.dsse.envelope.v1+json",
				Body:      statement(image.Digest, secret),
			}},
		})
		r.reg.PushList("vendor/app", hostile.FallbackTag(image.Digest), artifact)

		return image, map[string]string{
			"tags":          "/v2/reg.example/vendor/app/tags/list",
			"referrers":     "/v2/reg.example/vendor/app/referrers/" + image.Digest.String(),
			"referrers tag": manifests("vendor/app", hostile.FallbackTag(image.Digest)),
			"artifact":      manifests("vendor/app", artifact),
			"artifact tag":  manifests("vendor/app", "notes"),
			"artifact blob": blobs("vendor/app", digest.FromBytes(statement(image.Digest, secret))),
		}
	}

	t.Run("another image's digest", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		image, paths := pushed(r)
		r.reload(withPolicies(exempting(digest.FromString("another image"), "")))

		for what, path := range paths {
			r.refusedAt(what, path)
		}
		r.refusedAt("image", manifests("vendor/app", image.Digest))
		r.refusedAt("image by tag", manifests("vendor/app", "v1"))
	})

	t.Run("the image's digest", func(t *testing.T) { // and what is attached to it
		t.Parallel()
		r := newRig(t)
		image, paths := pushed(r)
		r.reload(withPolicies(exempting(image.Digest, "")))

		r.get(manifests("vendor/app", "v1")).served(t, image.Manifest)
		r.get(blobs("vendor/app", image.Layers[0])).served(t, r.reg.Blob("vendor/app", image.Layers[0]))
		for what, path := range paths {
			r.refusedAt(what, path)
		}
	})

	t.Run("memory of an artifact", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withPolicies(`[{name: vendor, images: ["reg.example/vendor/**"], authorities: [{key: KEY}]}]`))
		_, paths := pushed(r)
		r.remembers(t, paths["artifact"], http.StatusOK)

		r.reload(withPolicies(exempting(digest.FromString("another image"), "")))
		for what, path := range paths {
			r.refusedAt(what, path)
		}
	})

	t.Run("with images", func(t *testing.T) { // the control
		t.Parallel()
		r := newRig(t)
		image, paths := pushed(r)
		r.reload(withPolicies(exempting(image.Digest, `images: ["reg.example/vendor/**"], `)))

		r.get(paths["artifact"]) // whose blob is a part then
		for what, path := range paths {
			if g := r.get(path); g.status != http.StatusOK {
				t.Errorf("%s: status %d, want 200: %.200s", what, g.status, g.body)
			}
		}
	})
}
