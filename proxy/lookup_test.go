package proxy_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// Promise 3: a registry that refuses a look-up has not said that there is no
// signature. Only 404, 405, 501 and 400 say so. Under enforce the answer is
// "could not tell", and the gate does not remember it.
func TestRefusedLookUps(t *testing.T) {
	t.Parallel()

	places := map[string]hostile.Match{
		"sig tag":       hostile.SignatureTags,
		"referrers tag": fallbackTags,
		"referrers API": hostile.Is(hostile.Referrers),
		"payload":       hostile.Is(hostile.Blobs),
	}

	for place, match := range places {
		for _, status := range []int{401, 403, 408, 410, 421, 429, 451} {
			t.Run(place+"/"+strconv.Itoa(status), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				image := r.reg.PushImage("prod/app", "v1")
				r.reg.Sign("prod/app", image.Digest, newKey(t))
				r.reg.On(hostile.Status(status).At(match))

				for _, reference := range []string{"v1", image.Digest.String()} {
					g := r.get(manifests("prod/app", reference))
					e := g.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
					if e.Errors[0].Detail.Decision != "" {
						t.Errorf("%s: the answer looks like a denial: %s", reference, g.body)
					}
				}

				r.mend()
				r.refuses(t, image, "another key")
				r.reg.Sign("prod/app", image.Digest, r.key)
				r.clock.advance(time.Minute)
				r.serves(t, image)
			})
		}
	}
}

// fallbackTags chooses what is asked of the referrers tags.
func fallbackTags(q hostile.Request) bool {
	return q.Kind == hostile.Manifests && strings.HasPrefix(q.Reference, "sha256-") && !hostile.SignatureTags(q)
}
