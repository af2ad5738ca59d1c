package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// A node that always asks for the tag first gets through an outage too: what
// the tag stood for last is judged as of now, within staleIfError.
func TestTagOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.reg.On(hostile.Status(503))
	r.clock.advance(2 * time.Hour) // the verdict has to be made again
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	if g := r.head(manifests("prod/app", "v1")); g.status != http.StatusOK {
		t.Errorf("HEAD: %d", g.status)
	}
	r.get(manifests("prod/app", "never-seen")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	r.clock.advance(25 * time.Hour)
	r.get(manifests("prod/app", "v1")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
}

// A 404 is an answer, not an outage: a deleted tag is gone.
func TestDeletedTag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.reg.On(hostile.Status(404).At(hostile.Is(hostile.Manifests)))
	r.get(manifests("prod/app", "v1")).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
}

// An upstream that answers is not away, whatever it answers: signatures that
// were kept stand in for a registry that cannot be asked and for nothing else.
func TestRefusalIsNoOutage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		trick  hostile.Trick
		status int
		code   string
	}{
		{hostile.Status(503), http.StatusOK, ""},              // the control
		{hostile.Status(401), http.StatusForbidden, "DENIED"}, // by one that lets the image be read
		{hostile.Status(403), http.StatusForbidden, "DENIED"},
		{hostile.TooManyRequests("60"), http.StatusServiceUnavailable, "UNAVAILABLE"},
		{hostile.LieAboutDigest, http.StatusServiceUnavailable, "UNAVAILABLE"},
		{hostile.Gzip, http.StatusServiceUnavailable, "UNAVAILABLE"},
		{hostile.Status(404), http.StatusForbidden, "DENIED"}, // the signature was withdrawn
	} {
		t.Run(c.trick.Name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image := r.signed("v1")
			r.get(manifests("prod/app", "v1")).served(t, image.Manifest)

			r.restart()
			r.reg.On(c.trick.At(hostile.SignatureTags))
			g := r.get(manifests("prod/app", image.Digest))

			if c.status == http.StatusOK {
				g.served(t, image.Manifest)
				return
			}
			g.refused(t, c.status, c.code)
		})
	}
}

// A tag whose registry is away stands for what it stood for last, until
// staleIfError has passed. The repository is open, so that nothing but the
// tag's age can refuse it.
func TestStaleTag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("open/app", "v1")
	r.get(manifests("open/app", "v1")).served(t, image.Manifest)
	r.reg.On(hostile.Status(503))

	r.clock.advance(23 * time.Hour)
	r.get(manifests("open/app", "v1")).served(t, image.Manifest)

	r.clock.advance(2 * time.Hour)
	r.get(manifests("open/app", "v1")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
}
