package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// many is n descriptors of artefacts that exist nowhere.
func many(from, n int) string {
	var list []string
	for i := range n {
		list = append(
			list,
			fmt.Sprintf(
				`{"mediaType":%q,"digest":%q,"size":500,"artifactType":%q}`,
				hostile.ImageType,
				digest.FromString(fmt.Sprint(from+i)),
				hostile.SignatureType,
			),
		)
	}
	return strings.Join(list, ",")
}

// CVE-2023-46737, CVE-2023-33957: floods of referrers and of signatures cost a
// bounded number of questions; the refusal says what was not examined; and a
// signature in another place is found all the same.
func TestSignatureFlood(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	for name, flood := range map[string]struct {
		rounds int // requests upstream at most
		lay    func(image digest.Digest)
		sign   func(r *rig, image digest.Digest)
		note   string
	}{
		"10,000 referrers in one page": {80, func(image digest.Digest) {
			f.on("referrers/"+image.String(), says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[`+many(0, 10_000)+`]}`)))
		}, signUnderTag, "limits.signatures"},
		"referrers paged for ever": {80, func(image digest.Digest) {
			page := 0
			f.on("referrers/"+image.String(), func(w http.ResponseWriter, req *http.Request) {
				page++
				w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, req.URL.Path, page))
				says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[`+many(page*10, 10)+`]}`))(w, req)
			})
		}, signUnderTag, "more referrers than are examined"},
		"referrers paged in a circle, empty": {20, func(image digest.Digest) {
			f.on("referrers/"+image.String(), func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Link", `<`+req.URL.Path+`>; rel="next"`)
				says(hostile.IndexType, []byte(`{"schemaVersion":2,"manifests":[]}`))(w, req)
			})
		}, signUnderTag, "more referrers than are examined"},
		"10,000 entries of the fallback index": {80, func(image digest.Digest) {
			f.on("manifests/"+hostile.FallbackTag(image), says(hostile.IndexType, []byte(`{"schemaVersion":2,`+
				`"manifests":[`+many(0, 5_000)+`]}`)))
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
		}, signUnderTag, "limits.signatures"},
		"10,000 layers under the .sig tag": {64 + 20, func(image digest.Digest) {
			layer := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":2}`, hostile.SimpleSigningType, r.reg.PushBlob("prod/app", []byte("{}")))
			f.on("manifests/"+hostile.SignatureTag(image), says(hostile.ImageType, []byte(`{"schemaVersion":2,`+
				`"layers":[`+strings.TrimSuffix(strings.Repeat(layer+",", 7_000), ",")+`]}`)))
		}, signAsReferrer, "limits.signatures"},
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
		"a signature larger than any is": {20, func(image digest.Digest) {
			r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), hostile.Artifact{Layers: []hostile.Layer{
				{MediaType: hostile.SimpleSigningType, Digest: digest.FromString("huge"), Size: 1 << 40},
			}})
		}, signAsReferrer, "larger than any is"},
		"sizes that overflow": {20, func(image digest.Digest) {
			layer := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":9223372036854775807}`, hostile.SimpleSigningType, digest.FromString("x"))
			f.on("manifests/"+hostile.SignatureTag(image), says(hostile.ImageType, []byte(`{"schemaVersion":2,`+
				`"layers":[`+layer+`,`+layer+`,`+layer+`]}`)))
		}, signAsReferrer, "larger than any is"},
	} {
		t.Run(name, func(t *testing.T) {
			unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			flood.lay(unsigned.Digest)
			flood.lay(signed.Digest)
			flood.sign(r, signed.Digest)
			total := func() (n int) {
				f.mu.Lock()
				defer f.mu.Unlock()
				for _, c := range f.asked {
					n += c
				}
				return n
			}
			before := total()
			g := quiet{
				patience,
				64 << 20,
			}.within(t, func() got { return r.get(manifests("prod/app", unsigned.Digest)) })
			if e := g.refused(
				t,
				http.StatusForbidden,
				"DENIED",
			); !strings.Contains(e.Errors[0].Message, flood.note) ||
				strings.Contains(e.Errors[0].Message, "no signature found") {
				t.Errorf("the refusal does not say %q: %.1000s", flood.note, e.Errors[0].Message)
			}
			if n := total() - before; n > flood.rounds {
				t.Errorf("%d requests upstream, want %d at most", n, flood.rounds)
			}
			quiet{
				patience,
				64 << 20,
			}.within(t, func() got { return r.get(manifests("prod/app", signed.Digest)) }).served(t, signed.Manifest)
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
					if g, err := r.try(
						t.Context(),
						http.MethodGet,
						manifests("prod/app", list[i].Digest),
					); err != nil ||
						g.status != 200 {
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
		g := q.within(t, func() got { return r.get(blobs("prod/app", shared)) })
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
	if g := q.within(t, func() got { return r.get(blobs("prod/app", shared)) }); g.status != 403 && g.status != 503 {
		t.Fatalf("trust is withdrawn, and the layer: %d", g.status)
	}
	r.key = good
	r.reload()
	q.within(t, func() got { return r.get(blobs("prod/app", shared)) }).served(t, layer)
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
					if g, err := r.try(
						t.Context(),
						method,
						manifests("prod/app", name),
					); err != nil ||
						g.status != 404 {
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
