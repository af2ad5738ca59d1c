package proxy_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// A node that always asks for the tag first gets through an outage too: what
// the tag stood for last is judged as of now, within staleIfError.
func TestOutageIsBridgedForTags(t *testing.T) {
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
func TestDeletedTagIsNoOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.reg.On(hostile.Status(404).At(hostile.Is(hostile.Manifests)))
	r.get(manifests("prod/app", "v1")).refused(t, http.StatusNotFound, "MANIFEST_UNKNOWN")
}
