package proxy_test

import (
	"net/http"
	"testing"
)

// No byte of a manifest leaves before the facts about it are on disk: with a
// state that cannot be written the gate cannot tell, and it says so each time.
func TestUnwritableState(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.signed("v1")
	r.reg.PushImage("open/app", "v1")
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}

	for name, path := range map[string]string{
		"a signed image": manifests("prod/app", "v1"),
		"an open image":  manifests("open/app", "v1"),
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				r.get(path).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
			}
			if g := r.head(path); g.status != http.StatusServiceUnavailable {
				t.Errorf("HEAD: status %d, want 503", g.status)
			}
		})
	}
}
