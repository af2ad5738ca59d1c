package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/hostile"
)

// Promise 3: a registry that cannot answer a look-up has not said that there is no
// signature. Under enforce the answer is "could not tell", and the gate does not
// remember it. What registries say instead of 404 is a denial with a note, since
// what is not shown admits nothing, but not for a payload that is listed.
func TestRefusedLookUps(t *testing.T) {
	t.Parallel()

	places := map[string]hostile.Match{
		"sig tag":       hostile.SignatureTags,
		"referrers tag": fallbackTags,
		"referrers API": hostile.Is(hostile.Referrers),
		"payload":       hostile.Is(hostile.Blobs),
	}

	for place, match := range places {
		for _, status := range []int{401, 402, 403, 406, 408, 410, 415, 421, 422, 429, 451} {
			t.Run(place+"/"+strconv.Itoa(status), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				image := r.reg.PushImage("prod/app", "v1")
				r.reg.Sign("prod/app", image.Digest, newKey(t))
				r.reg.On(hostile.Status(status).At(match))
				withheld := slices.Contains([]int{401, 403, 406, 410, 415, 422}, status) && place != "payload"

				for _, reference := range []string{"v1", image.Digest.String()} {
					g := r.get(manifests("prod/app", reference))
					if withheld {
						g.withheld(t, status)
						continue
					}
					e := g.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
					if e.Errors[0].Detail.Decision != "" {
						t.Errorf("%s: the answer looks like a denial: %s", reference, g.body)
					}
				}

				r.mend()
				if withheld {
					r.clock.advance(time.Minute) // denials are remembered for 30 s
				}
				r.refuses(t, image, "another key")
				r.reg.Sign("prod/app", image.Digest, r.key)
				r.clock.advance(time.Minute)
				r.serves(t, image)
			})
		}
	}
}

// withheld checks that g is a denial which says what the registry answered.
func (g got) withheld(t *testing.T, status int) {
	t.Helper()
	e := g.refused(t, http.StatusForbidden, "DENIED")
	note := fmt.Sprintf("the registry answered %d (%s) for ", status, http.StatusText(status))
	if !strings.Contains(e.Errors[0].Message, note) {
		t.Errorf("%s", e.Errors[0].Message)
	}
	if !slices.ContainsFunc(e.Errors[0].Detail.Reasons, func(r string) bool { return strings.Contains(r, note) }) {
		t.Errorf("%s", g.body)
	}
}

// Artifactory answers 403 for a tag that does not exist, others 401, so for the
// .sig of every unsigned image: that is a denial, as long as the image itself can
// be read.
func TestWithheldSignatures(t *testing.T) {
	t.Parallel()
	everySignature := func(q hostile.Request) bool {
		return hostile.SignatureTags(q) || fallbackTags(q) || q.Kind == hostile.Referrers
	}
	for _, status := range []int{401, 403, 406, 410, 415, 422} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			unsigned := r.reg.PushImage("prod/app", "unsigned")
			r.reg.On(hostile.Status(status).At(everySignature))
			g := r.get(manifests("prod/app", "unsigned"))
			g.withheld(t, status)
			if e := g.refused(
				t,
				http.StatusForbidden,
				"DENIED",
			); !strings.Contains(
				e.Errors[0].Message,
				"no signature found",
			) {
				t.Errorf("%s", e.Errors[0].Message)
			}

			r.mend()
			r.reg.Sign("prod/app", unsigned.Digest, r.key)
			r.clock.advance(6 * time.Second) // as where nothing was found, a signature may follow
			r.serves(t, unsigned)
		})
		t.Run(fmt.Sprintf("%d, signed elsewhere", status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image := r.signed("v1")
			r.reg.On(hostile.Status(status).At(func(q hostile.Request) bool {
				return fallbackTags(q) || q.Kind == hostile.Referrers
			}))
			r.serves(t, image)
		})
		// Credentials that have ended say nothing of signatures.
		t.Run(fmt.Sprintf("%d for the image too", status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image := r.reg.PushImage("prod/app", "v1")
			refused := atomic.Bool{}
			r.reg.On(hostile.Status(status).At(func(q hostile.Request) bool {
				first := q.Kind == hostile.Manifests && q.Reference == "v1" && !refused.Swap(true)
				return !first
			}))
			r.get(manifests("prod/app", "v1")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
			r.mend()
			r.refuses(t, image, "no signature found")
		})
		// Of a registry that keeps signatures alone, no image tells whether it can be read.
		t.Run(fmt.Sprintf("%d of another registry", status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *options) {
				o.hosts = []string{"sigs.example"}
				o.policies = `[{name: prod, images: ["reg.example/prod/**"], signatureRepository: ` +
					`sigs.example/all/sigs, ` +
					`authorities: [{name: release, key: KEY}]}]`
			})
			image := r.reg.PushImage("prod/app", "v1")
			// A copy of the image there says nothing of the repository of signatures.
			r.regs["sigs.example"].PushRaw("prod/app", "v1", hostile.ImageType, image.Manifest)
			r.regs["sigs.example"].On(hostile.Status(status).At(everySignature))
			r.get(manifests("prod/app", "v1")).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
		})
	}
}

// fallbackTags chooses what is asked of the referrers tags.
func fallbackTags(q hostile.Request) bool {
	return q.Kind == hostile.Manifests && strings.HasPrefix(q.Reference, "sha256-") && !hostile.SignatureTags(q)
}
