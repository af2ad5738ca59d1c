package proxy_test

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestDigestAlias: what a policy says of a digest in one algorithm holds for
// the same bytes under the other one's, and under a tag.
func TestDigestAlias(t *testing.T) {
	t.Parallel()
	for kind, rest := range map[string]string{
		"allowed otherwise": `{name: rest, images: ["reg.example/prod/**"], static: allow}`,
		"warned otherwise":  `{name: rest, images: ["reg.example/prod/**"], mode: warn, authorities: [{key: KEY}]}`,
	} {
		for _, listed := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			t.Run(kind+", denied by "+listed.String(), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, withPolicies(`[`+rest+`]`))
				image := r.reg.PushImage("prod/app", "v1")
				names := []digest.Digest{image.Digest, digest.SHA512.FromBytes(image.Manifest)}
				for _, asked := range names {
					r.get(manifests("prod/app", asked)).served(t, image.Manifest)
				}
				denied := listed.FromBytes(image.Manifest).String()
				r.reload(withPolicies(`[{name: bad, digests: ["` + denied + `"], static: deny}, ` + rest + `]`))
				r.refusedAt("by tag", manifests("prod/app", "v1"))
				for _, asked := range names {
					r.refusedAt("by "+asked.Algorithm().String(), manifests("prod/app", asked))
				}
			})
		}
	}
}
