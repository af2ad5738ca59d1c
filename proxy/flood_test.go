package proxy_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// flood is a heap of what could be signatures of an image.
type flood struct {
	rounds int // requests upstream at most
	lay    func(image digest.Digest)
	sign   func(r *rig, image digest.Digest) // where the flood is not
	note   string                            // of the refusal
}

// many is n descriptors of artifacts that exist nowhere.
func many(from, n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":500,"artifactType":%q}`,
			hostile.ImageType, digest.FromString(fmt.Sprint(from+i)), hostile.SignatureType))
	}
	return strings.Join(list, ",")
}

// listing is an index of these entries.
func listing(entries string) http.HandlerFunc {
	return says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[`+entries+`]}`))
}

// layering is a manifest of these layers alone.
func layering(layers string) http.HandlerFunc {
	return says(hostile.ImageType, []byte(`{"schemaVersion":2,"layers":[`+layers+`]}`))
}

// floodsOfReferrers come by the referrers API or the fallback tag.
func floodsOfReferrers(t *testing.T, r *rig, f *front) map[string]flood {
	return map[string]flood{
		"10,000 referrers in one page": {80, func(image digest.Digest) {
			f.on("referrers/"+image.String(), listing(many(0, 10_000)))
		}, signUnderTag, "limits.signatures"},
		"referrers paged for ever": {80, func(image digest.Digest) {
			page := 0
			f.on("referrers/"+image.String(), func(w http.ResponseWriter, req *http.Request) {
				page++
				w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, req.URL.Path, page))
				listing(many(page*10, 10))(w, req)
			})
		}, signUnderTag, "more referrers than are examined"},
		"referrers paged in a circle, empty": {20, func(image digest.Digest) {
			f.on("referrers/"+image.String(), func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Link", `<`+req.URL.Path+`>; rel="next"`)
				listing("")(w, req)
			})
		}, signUnderTag, "more referrers than are examined"},
		"10,000 entries of the fallback index": {80, func(image digest.Digest) {
			f.on("manifests/"+hostile.FallbackTag(image), listing(many(0, 5_000)))
		}, signUnderTag, "limits.signatures"},
		"64 referrers of 64 layers each": {64 + 64 + 20, func(image digest.Digest) {
			payload := hostile.Payload("prod/app", image)
			for range 64 {
				r.reg.PushArtifact("prod/app", "", hostile.Artifact{
					Type:       hostile.SignatureType,
					ConfigType: hostile.SignatureType,
					Subject:    image,
					Layers:     bytesOf(64, hostile.SignatureLayer(payload, newKey(t))),
				})
			}
		}, signUnderTag, "more than 1024 signatures over one payload"},
		"signatures of 256 KiB, more than limits.verdictBytes": {64 + 20, func(image digest.Digest) {
			var layers []hostile.Layer
			for i := range 64 {
				layers = append(layers, hostile.Layer{
					MediaType: bundleType,
					Body:      bytes.Repeat([]byte{byte(i)}, 256<<10),
				})
			}
			r.reg.PushArtifact("prod/app", "", hostile.Artifact{Type: bundleType, Layers: layers, Subject: image})
		}, signUnderTag, "the referrers API holds more than 4096 KiB, its share of limits.verdictBytes"},
	}
}

// floodsUnderTag come by the .sig tag.
func floodsUnderTag(t *testing.T, r *rig, f *front) map[string]flood {
	layer := func(d digest.Digest, size int64) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, hostile.SimpleSigningType, d, size)
	}
	return map[string]flood{
		"10,000 layers under the .sig tag": {64 + 20, func(image digest.Digest) {
			one := layer(r.reg.PushBlob("prod/app", []byte("{}")), 2)
			layers := strings.TrimSuffix(strings.Repeat(one+",", 7_000), ",")
			f.on("manifests/"+hostile.SignatureTag(image), layering(layers))
		}, signAsReferrer, "more than 1024 signatures over one payload"},
		"200 layers of payloads of their own": {64 + 20, func(image digest.Digest) {
			stranger := newKey(t)
			layers := several(200, func(i int) hostile.Layer { return own(image, i, stranger) })
			r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), hostile.Artifact{Layers: layers})
		}, signAsReferrer, "limits.signatures"},
		"a signature larger than any is": {20, func(image digest.Digest) {
			r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), hostile.Artifact{Layers: []hostile.Layer{
				{MediaType: hostile.SimpleSigningType, Digest: digest.FromString("huge"), Size: 1 << 40},
			}})
		}, signAsReferrer, "larger than any is"},
		"sizes that overflow": {20, func(image digest.Digest) {
			one := layer(digest.FromString("x"), math.MaxInt64)
			f.on("manifests/"+hostile.SignatureTag(image), layering(one+","+one+","+one))
		}, signAsReferrer, "larger than any is"},
	}
}

// CVE-2023-46737, CVE-2023-33957: floods of referrers and of signatures cost a
// bounded number of questions; the refusal says what was not examined; and a
// signature in another place is found all the same.
func TestSignatureFlood(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	total := func() (n int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, c := range f.asked {
			n += c
		}
		return n
	}

	floods := floodsOfReferrers(t, r, f)
	maps.Copy(floods, floodsUnderTag(t, r, f))
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			flood.lay(unsigned.Digest)
			flood.lay(signed.Digest)
			flood.sign(r, signed.Digest)

			before := total()
			q := quiet{patience, 64 << 20}
			g := q.get(t, r, manifests("prod/app", unsigned.Digest))
			message := g.refused(t, http.StatusForbidden, "DENIED").Errors[0].Message
			if !strings.Contains(message, flood.note) || strings.Contains(message, "no signature found") {
				t.Errorf("the refusal does not say %q: %.1000s", flood.note, message)
			}
			if n := total() - before; n > flood.rounds {
				t.Errorf("%d requests upstream, want %d at most", n, flood.rounds)
			}

			q.get(t, r, manifests("prod/app", signed.Digest)).served(t, signed.Manifest)
			f.mu.Lock()
			clear(f.lies)
			f.mu.Unlock()
		})
	}
}

// Section 7: a layer that thousands of images share. While all of them are
// refused the answer comes in time and is a refusal or could-not-tell; when
// trust is back the layer is served again.
func TestParentFlood(t *testing.T) {
	const images = 2000
	r, _, end := siege(t, patient)
	defer end()
	layer := random(1000)
	shared := digest.FromBytes(layer)
	for batch := range images / 100 {
		var all sync.WaitGroup
		var list []hostile.Image
		for range 100 {
			image := r.reg.PushImage("prod/app", "", layer)
			r.reg.Sign("prod/app", image.Digest, r.key)
			list = append(list, image)
		}
		for worker := range 25 {
			all.Go(func() {
				for i := worker; i < len(list); i += 25 {
					g, err := r.try(t.Context(), http.MethodGet, manifests("prod/app", list[i].Digest))
					if err != nil || g.status != 200 {
						t.Errorf("image %d.%d: %d %v", batch, i, g.status, err)
					}
				}
			})
		}
		all.Wait()
		r.reg.Forget() // its log is searched from the start
	}
	r.get(blobs("prod/app", shared)).served(t, layer)
	good := r.key
	r.key = newKey(t)
	r.reload()
	q := quiet{patience, 64 << 20}
	ends := 0
	for range 5 {
		g := q.get(t, r, blobs("prod/app", shared))
		if g.status != 403 && g.status != 503 {
			t.Fatalf("trust is withdrawn, and the layer: %d", g.status)
		}
		if g.status == 403 {
			ends++
		}
		time.Sleep(20 * time.Millisecond) // memory takes what it is given a little later
	}
	if ends == 0 {
		t.Error("asked five times, it still could not tell")
	}
	old := r.cache
	r.restart() // and with nothing in memory
	old.Close() // it has goroutines of its own
	if g := q.get(t, r, blobs("prod/app", shared)); g.status != 403 && g.status != 503 {
		t.Fatalf("trust is withdrawn, and the layer: %d", g.status)
	}
	r.key = good
	r.reload()
	q.get(t, r, blobs("prod/app", shared)).served(t, layer)
}

// A flood of tags that do not exist: each is asked for once in a while, however
// often and by however many it is asked of the gate.
func TestMissingTagFlood(t *testing.T) {
	r, f, end := siege(t)
	defer end()
	var names []string
	for range 20 {
		names = append(names, "gone-"+random16())
	}
	for range 10 {
		var all sync.WaitGroup
		for _, name := range names {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				all.Go(func() {
					g, err := r.try(t.Context(), method, manifests("prod/app", name))
					if err != nil || g.status != 404 {
						t.Errorf("%s %s: %d %v", method, name, g.status, err)
					}
				})
			}
		}
		all.Wait()
		time.Sleep(5 * time.Millisecond)
	}
	total := 0
	for _, name := range names {
		total += f.count("manifests/" + name)
	}
	if total > 3*len(names) {
		t.Errorf("%d names asked for 400 times cost %d requests upstream", len(names), total)
	}
	image := r.signed(names[0]) // pushed at last: a 404 is believed for three seconds
	r.clock.advance(4 * time.Second)
	r.get(manifests("prod/app", names[0])).served(t, image.Manifest)
}
