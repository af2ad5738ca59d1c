package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// Facts, verdicts and bytes in memory belong to one repository: the same digest
// in another one starts from nothing. CVE-2024-39897 and CVE-2026-35172 were
// the same mistake with blobs.
func TestMemoryOfOneRepository(t *testing.T) {
	t.Parallel()

	t.Run("manifest", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		bad := r.reg.PushImage("prod/app", "v1")

		r.remembers(t, manifests("prod/app", bad.Digest), http.StatusForbidden)

		r.get(manifests("open/app", bad.Digest)).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
		if g := r.get(blobs("open/app", bad.Digest)); g.status == http.StatusOK {
			t.Error("an open repository serves the refused manifest of another one as a blob")
		}
	})

	t.Run("verdict", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		image := r.signed("v1")
		copied := r.reg.PushRaw("prod/copy", "v1", hostile.ImageType, image.Manifest) // without its signature
		if copied != image.Digest {
			t.Fatalf("the copy is %s, the image %s", copied, image.Digest)
		}

		r.remembers(t, manifests("prod/app", image.Digest), http.StatusOK)

		r.refusedAt("the same image without its signature", manifests("prod/copy", "v1"))
		r.refusedAt("the same image without its signature", manifests("prod/copy", image.Digest))
		for _, d := range append([]digest.Digest{image.Config}, image.Layers...) {
			r.reg.PushBlob("prod/copy", r.reg.Blob("prod/app", d))
			r.refusedAt("its part", blobs("prod/copy", d))
		}
	})

	t.Run("denial", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		image := r.reg.PushImage("prod/app", "v1")
		r.reg.PushRaw("prod/copy", "v1", hostile.ImageType, image.Manifest)
		r.reg.Sign("prod/copy", image.Digest, r.key)

		r.remembers(t, manifests("prod/app", image.Digest), http.StatusForbidden)

		r.get(manifests("prod/copy", "v1")).served(t, image.Manifest)
	})
}

// A repository that no policy allows any more serves no signature artifact
// either, whatever memory says that the artifact is.
func TestArtifactOfClosedRepository(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	payload := digest.FromBytes(hostile.Payload("prod/app", image.Digest))
	tagged := r.reg.Sign("prod/app", image.Digest, r.key)
	referrer := r.reg.Attach("prod/app", image.Digest, r.key)
	paths := []string{
		manifests("prod/app", tagged),
		manifests("prod/app", referrer),
		blobs("prod/app", tagged),
		blobs("prod/app", referrer),
		blobs("prod/app", payload),
	}
	for _, path := range paths {
		r.remembers(t, path, http.StatusOK)
	}

	for name, policies := range map[string]string{
		"denied":       `[{name: closed, images: ["reg.example/prod/**"], static: deny}]`,
		"in no policy": `[{name: open, images: ["reg.example/open/**"], static: allow}]`,
	} {
		r.reload(withPolicies(policies))
		for _, path := range paths {
			r.refusedAt(name, path)
		}
	}
}

// remembers asks for path until the gate answers without a question to the
// registry, except for the bytes of a blob. Memory takes what it is given a
// little later.
func (r *rig) remembers(t *testing.T, path string, status int) {
	t.Helper()

	for range 100 {
		r.reg.Forget()
		if g := r.get(path); g.status != status {
			t.Fatalf("%s: status %d, want %d: %.300s", path, g.status, status, g.body)
		}
		if r.reg.Count(func(q hostile.Request) bool { return q.Kind != hostile.Blobs }) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: the gate asks the registry every time", path)
}
