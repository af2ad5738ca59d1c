package proxy_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// bombs are JSON values of about n bytes that are cheap to send.
func bombs(n int) map[string]string {
	var distinct strings.Builder
	for i := 0; distinct.Len() < n-16; i++ {
		fmt.Fprintf(&distinct, `"%x":0,`, i)
	}
	return map[string]string{
		"deep lists":        strings.Repeat("[", n),
		"deep objects":      strings.Repeat(`{"a":`, n/5),
		"9,000 deep":        strings.Repeat("[", 9000) + strings.Repeat("]", 9000), // encoding/json takes it
		"wide list":         "[" + strings.Repeat("0,", n/2-2) + "0]",
		"wide objects":      "[" + strings.Repeat("{},", n/3-2) + "{}]",
		"huge key":          `{"` + strings.Repeat("k", n-10) + `":1}`,
		"huge key, escapes": `{"` + strings.Repeat(`\u212a`, n/6-2) + `":1}`,
		"huge number":       strings.Repeat("9", n),
		"huge exponent":     "1e" + strings.Repeat("9", n-2),
		"huge text":         `"` + strings.Repeat("x", n-2) + `"`,
		"one key in bulk":   `{` + strings.Repeat(`"a":0,`, n/6-2) + `"a":0}`,
		"keys in bulk":      `{` + distinct.String() + `"":0}`,
		"cut off":           `"` + strings.Repeat("x", n),
		"NUL bytes":         strings.Repeat("\x00", n),
	}
}

// harmless are the bombs that are one value, which costs nothing unless it is read.
var harmless = []string{"huge key", "huge key, escapes", "huge number", "huge exponent", "huge text"}

// fillerDigest is the digest of {}, which every repository may hold.
const fillerDigest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

// limitsFiller is a layer to fill manifests with.
const limitsFiller = `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",` +
	`"digest":"` + fillerDigest + `","size":2}`

// imageWith is an image manifest with n layers and more.
func imageWith(n int, more string) []byte {
	layers := strings.TrimSuffix(strings.Repeat(limitsFiller+",", n), ",")
	return []byte(`{"schemaVersion":2,"mediaType":"` + hostile.ImageType + `","config":` + limitsFiller +
		`,"layers":[` + layers + `]` + more + `}`)
}

// indexWith is an index of n children and more.
func indexWith(n int, more string) []byte {
	children := strings.TrimSuffix(strings.Repeat(limitsFiller+",", n), ",")
	return []byte(`{"schemaVersion":2,"mediaType":"` + hostile.IndexType + `","manifests":[` + children + `]` +
		more + `}`)
}

// padded is an image manifest of exactly n bytes.
func padded(n int) []byte {
	short := len(imageWith(1, `,"annotations":{"p":""}`))
	return imageWith(1, `,"annotations":{"p":"`+strings.Repeat("x", n-short)+`"}`)
}

// A manifest made to be dear to read costs its length: it is no manifest, or,
// where the bomb is in a place that is never read, an unsigned one.
func TestManifestBombs(t *testing.T) {
	r, f, end := siege(t, patient)
	defer end()
	q := quiet{patience, 96 << 20}
	all := bombs(4<<20 - 1000)
	for i, name := range sorted(all) {
		t.Run(name, func(t *testing.T) {
			status, code := 400, "MANIFEST_INVALID"
			if slices.Contains(harmless, name) {
				status, code = 403, "DENIED"
			}
			tag := fmt.Sprint("bomb", i)
			f.on("manifests/"+tag, says(hostile.ImageType, imageWith(1, `,"x":`+all[name])))
			q.get(t, r, manifests("prod/app", tag)).refused(t, status, code)
		})
	}

	long := strings.Repeat("a", 1<<20)
	for name, change := range map[string]struct{ old, new string }{
		"size":          {`"size":2`, `"size":` + all["huge number"]},
		"exponent":      {`"size":2`, `"size":1e999999999`},
		"schemaVersion": {`"schemaVersion":2`, `"schemaVersion":2` + strings.Repeat("0", 1<<20)},
		"digest":        {`"digest":"`, `"digest":"` + long},
		"mediaType":     {`"mediaType":"`, `"mediaType":"` + long},
	} {
		t.Run("in "+name, func(t *testing.T) {
			body := strings.Replace(string(imageWith(1, "")), change.old, change.new, 1)
			f.on("manifests/in-"+name, says(hostile.ImageType, []byte(body)))
			g := q.get(t, r, manifests("prod/app", "in-"+name))
			g.refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
			if len(g.body) > 1000 {
				t.Errorf("the refusal quotes %d bytes", len(g.body))
			}
		})
	}
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// lookup is one place where signatures are looked for, held by the attacker.
type lookup struct {
	size int // of a bomb: as large as the place takes
	// put places a document there, served by lie.
	put func(r *rig, f *front, image digest.Digest, document []byte, lie delivery)
	// sign signs the image somewhere else, where the gate must still find it.
	sign func(r *rig, image digest.Digest)
}

func signUnderTag(r *rig, image digest.Digest) { r.reg.Sign("prod/app", image, r.key) }

func signAsReferrer(r *rig, image digest.Digest) { r.reg.Attach("prod/app", image, r.key) }

var places = map[string]lookup{
	".sig manifest": {
		1 << 20,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie delivery) {
			f.on("manifests/"+hostile.SignatureTag(image), lie(hostile.ImageType, document))
		},
		signAsReferrer,
	},
	"referrers answer": {
		4<<20 - 2000,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie delivery) {
			f.on("referrers/"+image.String(), lie(hostile.IndexType, document))
		},
		signUnderTag,
	},
	"referrer's manifest": {
		1 << 20,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie delivery) {
			d := digest.FromBytes(document)
			index := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
				hostile.ImageType, d, len(document))
			f.on("referrers/"+image.String(), says(hostile.IndexType, index))
			f.on("manifests/"+d.String(), lie(hostile.ImageType, document))
		},
		signUnderTag,
	},
	"fallback index": {
		1 << 20,
		func(_ *rig, f *front, image digest.Digest, document []byte, lie delivery) {
			f.on("manifests/"+hostile.FallbackTag(image), lie(hostile.IndexType, document))
		},
		signUnderTag,
	},
	"payload": {
		256<<10 - 2000,
		func(r *rig, f *front, image digest.Digest, document []byte, lie delivery) {
			layer := hostile.SignatureLayer(document, r.key) // truly signed
			artifact := hostile.Artifact{Layers: []hostile.Layer{layer}}
			r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), artifact)
			f.on("blobs/"+digest.FromBytes(document).String(), lie("application/octet-stream", document))
		},
		signAsReferrer,
	},
	"bundle": {
		256<<10 - 2000,
		func(r *rig, f *front, image digest.Digest, document []byte, lie delivery) {
			r.reg.PushArtifact("prod/app", "", hostile.Artifact{
				Type:    bundleType,
				Layers:  []hostile.Layer{{MediaType: bundleType, Body: document}},
				Subject: image,
			})
			f.on("blobs/"+digest.FromBytes(document).String(), lie("application/octet-stream", document))
		},
		signUnderTag,
	},
}

// around puts a bomb into a document of the place's own kind.
func around(place string, image digest.Digest, bomb string) []byte {
	switch place {
	case "referrers answer", "fallback index":
		return indexWith(1, `,"x":`+bomb)
	case "payload":
		text := string(hostile.Payload("prod/app", image))
		return []byte(strings.TrimSuffix(text, "}") + `,"x":` + bomb + "}")
	case "bundle":
		return []byte(`{"mediaType":"` + bundleType + `","verificationMaterial":{"publicKey":{"hint":"x"},"x":` +
			bomb + `},"dsseEnvelope":{}}`)
	}
	return imageWith(1, `,"x":`+bomb)
}

// CVE-2023-46737, CVE-2024-29902: a bomb where a signature is looked for is no
// signature, and keeps none that lies elsewhere from counting.
func TestSignatureBombs(t *testing.T) {
	for _, place := range sorted(places) {
		t.Run(place, func(t *testing.T) {
			r, f, end := siege(t, patient)
			defer end()
			l := places[place]
			all := bombs(l.size)
			for _, name := range sorted(all) {
				unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
				l.sign(r, signed.Digest)
				for _, image := range []hostile.Image{unsigned, signed} {
					l.put(r, f, image.Digest, around(place, image.Digest, all[name]), says)
				}

				q := quiet{patience, 64 << 20}
				g := q.get(t, r, manifests("prod/app", unsigned.Digest))
				if place == "payload" && slices.Contains(harmless, name) {
					if g.status != 200 { // the key did sign that
						t.Errorf("%s: truly signed, and %d: %.300s", name, g.status, g.body)
					}
				} else if e := g.refused(t, http.StatusForbidden, "DENIED"); len(e.Errors[0].Message) > 2000 {
					t.Errorf("%s: a refusal of %d bytes", name, len(e.Errors[0].Message))
				}
				if g := q.get(t, r, manifests("prod/app", signed.Digest)); g.status != 200 {
					t.Errorf("%s: the good signature elsewhere does not count: %d %.300s", name, g.status, g.body)
				}
			}
		})
	}
}

// An image config made to be dear belongs to an artifact that is none.
func TestConfigBombs(t *testing.T) {
	r, _, end := siege(t, patient)
	defer end()
	all := bombs(8<<20 - 2000) // limits.payloadBytes
	for _, name := range sorted(all) {
		payload := hostile.Payload("prod/app", digest.FromString(name))
		config := []byte(`{"config":{},"rootfs":{"diff_ids":["` + digest.FromBytes(payload).String() + `"]},` +
			`"x":` + all[name] + `}`)
		d := r.reg.PushArtifact("prod/app", "", hostile.Artifact{
			ConfigType: hostile.ConfigType,
			Config:     config,
			Layers:     []hostile.Layer{{MediaType: hostile.SimpleSigningType, Body: payload}},
		})
		g := quiet{patience, 192 << 20}.get(t, r, manifests("prod/app", d))
		if slices.Contains(harmless, name) && g.status == 200 {
			continue // it says nothing that could be run
		}
		g.refused(t, http.StatusForbidden, "DENIED")
	}
}
