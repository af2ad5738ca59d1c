package proxy_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
)

// A signed image is served byte for byte.
func TestSignedImage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	sha512 := digest.SHA512.FromBytes(image.Manifest)
	r.reg.Attach("prod/app", sha512, r.key)
	for _, reference := range []string{"v1", image.Digest.String(), sha512.String()} {
		for _, method := range []string{http.MethodHead, http.MethodGet, http.MethodGet} {
			g := r.do(method, manifests("prod/app", reference))
			want := image.Manifest
			if method == http.MethodHead {
				want = nil
			}
			g.served(t, want)
			d := image.Digest.String()
			if strings.HasPrefix(reference, "sha512:") {
				d = reference
			}
			for name, value := range map[string]string{
				"Content-Type":                    hostile.ImageType,
				"Docker-Content-Digest":           d,
				"ETag":                            `"` + d + `"`,
				"Cache-Control":                   "private, no-cache",
				"Content-Length":                  strconv.Itoa(len(image.Manifest)),
				"X-Content-Type-Options":          "nosniff",
				"Docker-Distribution-Api-Version": "registry/2.0",
			} {
				if got := g.header.Get(name); got != value {
					t.Errorf("%s %s: %s is %q, want %q", method, reference, name, got, value)
				}
			}
			if g.header.Get("Pullgate-Decision") == "" {
				t.Errorf("%s %s: no decision id", method, reference)
			}
			if w := g.header.Get("Warning"); w != "" {
				t.Errorf("%s %s: a warning: %s", method, reference, w)
			}
		}
	}
}

// A signature counts as a referrer and under the fallback tag.
func TestSignaturePlaces(t *testing.T) {
	t.Parallel()
	for _, status := range []int{0, 404, 405, 501, 400, 200} {
		r := newRig(t)
		image := r.reg.PushImage("prod/app", "v1")
		signature := r.reg.Attach("prod/app", image.Digest, r.key)
		if status != 0 { // no referrers API: the fallback tag lists it
			r.reg.On(hostile.NoReferrers(status))
			r.reg.PushList("prod/app", hostile.FallbackTag(image.Digest), signature)
		}
		r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	}
}

// A signature under its tag counts, whatever the referrers API says.
func TestTagSignature(t *testing.T) {
	t.Parallel()
	for _, trick := range []hostile.Trick{
		hostile.NoReferrers(404),
		hostile.NoReferrers(200),
		hostile.NoReferrers(500),
		hostile.ManyReferrers,
		hostile.EndlessPaging,
		hostile.Truncate.At(hostile.Is(hostile.Referrers)),
		hostile.StallMidBody.At(hostile.Is(hostile.Referrers)),
	} {
		r := newRig(t)
		image := r.signed("v1")
		r.reg.On(trick)
		if g := r.get(manifests("prod/app", "v1")); g.status != http.StatusOK {
			t.Errorf("%s: status %d, want 200: %s", trick.Name, g.status, g.body)
		} else {
			g.served(t, image.Manifest)
		}
	}
}

// A refusal tells the whole reason.
func TestUnsignedImage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	for _, reference := range []string{"v1", image.Digest.String()} {
		g := r.get(manifests("prod/app", reference))
		e := g.refused(t, http.StatusForbidden, "DENIED").Errors[0]
		want := "reg.example/prod/app@" + image.Digest.String() + ` refused by policy "prod": no signature found ` +
			`(looked for: key "release") (decision ` + g.header.Get("Pullgate-Decision") + ")"
		if e.Message != want {
			t.Errorf("message %q, want %q", e.Message, want)
		}
		d := e.Detail
		if d.Image != "reg.example/prod/app" || d.Digest != image.Digest.String() || d.Policy != "prod" ||
			len(d.Reasons) != 1 ||
			d.Decision == "" ||
			d.Decision != g.header.Get("Pullgate-Decision") {
			t.Errorf("detail %+v, header %v", d, g.header)
		}
	}
}

// A refusal names the signature that did not count.
func TestUncountedSignature(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	other := newKey(t)
	image := r.reg.PushImage("prod/app", "other-key")
	r.reg.Sign("prod/app", image.Digest, other)
	moved := r.reg.PushImage("prod/app", "moved") // a good signature, but of another image
	r.reg.PushArtifact("prod/app", hostile.SignatureTag(moved.Digest), hostile.Artifact{
		Layers: []hostile.Layer{hostile.SignatureLayer(hostile.Payload("prod/app", r.signed("good").Digest), r.key)},
	})
	altered := r.reg.PushImage("prod/app", "altered")
	layer := hostile.SignatureLayer(hostile.Payload("prod/app", altered.Digest), r.key)
	layer.Body = hostile.Payload("prod/app", altered.Digest, "added", "later")
	r.reg.PushArtifact(
		"prod/app",
		hostile.SignatureTag(altered.Digest),
		hostile.Artifact{Layers: []hostile.Layer{layer}},
	)
	for tag, want := range map[string]string{
		"other-key": "another key",
		"moved":     "for another image",
		"altered":   "or altered",
	} {
		e := r.get(manifests("prod/app", tag)).refused(t, http.StatusForbidden, "DENIED").Errors[0]
		if !strings.Contains(e.Message, want) || strings.Contains(e.Message, "no signature found") {
			t.Errorf("%s: %s", tag, e.Message)
		}
	}
}

// One bad signature among good ones does not deny.
func TestBadSignatureAmongGood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	payload := hostile.Payload("prod/app", image.Digest)
	r.reg.PushArtifact("prod/app", hostile.SignatureTag(image.Digest), hostile.Artifact{Layers: []hostile.Layer{
		{MediaType: hostile.SimpleSigningType, Body: []byte("no JSON at all")},
		{MediaType: hostile.SimpleSigningType, Digest: digest.FromString("not there"), Size: 9},
		{MediaType: hostile.SimpleSigningType, Digest: digest.FromString("huge"), Size: 1 << 40},
		hostile.SignatureLayer(payload, newKey(t)), hostile.SignatureLayer(payload, r.key),
	}})
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
}

// A signature for one digest algorithm is none for another.
func TestOtherAlgorithm(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.get(manifests("prod/app", digest.SHA512.FromBytes(image.Manifest))).refused(t, http.StatusForbidden, "DENIED")
}

// HEAD tells what GET tells.
func TestHead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("good")
	r.reg.PushImage("prod/app", "bad")
	r.reg.PushRaw("prod/app", "nonsense", hostile.ImageType, []byte("{}"))
	for _, path := range []string{
		manifests("prod/app", "good"),
		manifests("prod/app", "bad"),
		manifests("prod/app", "nonsense"),
		manifests("prod/app", "missing"),
		manifests("prod/app", "sha256:short"),
		blobs("prod/app", digest.FromString("unknown")),
		blobs("prod/app", image.Layers[0]),
		manifests("unlisted", "x"),
		"/v2/other.example/a/manifests/x",
		"/v2/",
		"/v2/x",
		"/",
		"/v2/reg.example/prod/app/tags/list",
		"/v2/reg.example/closed/app/tags/list",
		"/v2/reg.example/prod/app/referrers/" + image.Digest.String(),
	} {
		g, h := r.get(path), r.head(path)
		if g.status != h.status || len(h.body) != 0 || h.err != nil {
			t.Errorf("%s: GET %d, HEAD %d with %d bytes, %v", path, g.status, h.status, len(h.body), h.err)
		}
		for _, name := range []string{
			"Content-Type",
			"Content-Length",
			"Docker-Content-Digest",
			"Etag",
			"Cache-Control",
			"Retry-After",
			"Accept-Ranges",
		} {
			if g.header.Get(name) != h.header.Get(name) {
				t.Errorf("%s: %s is %q for GET, %q for HEAD", path, name, g.header.Get(name), h.header.Get(name))
			}
		}
		if (g.header.Get("Pullgate-Decision") == "") != (h.header.Get("Pullgate-Decision") == "") {
			t.Errorf("%s: a decision id for one method only", path)
		}
	}
}

// The index is signed, nothing else: its children, their configs and layers
// follow by digest.
func TestSignedIndexParts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	one, two := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
	index := r.reg.PushIndex("prod/app", "v1", one.Digest, two.Digest)
	r.reg.Sign("prod/app", index, r.key)
	for _, child := range []hostile.Image{one, two} {
		r.refusedAt("a child before its index", manifests("prod/app", child.Digest))
		r.refusedAt("a layer before its index", blobs("prod/app", child.Layers[0]))
	}
	r.clock.advance(10 * time.Second) // past the memory of "no signature found"
	r.get(manifests("prod/app", "v1")).served(t, r.reg.Manifest("prod/app", index))
	check := func() {
		t.Helper()
		for _, child := range []hostile.Image{one, two} {
			r.head(manifests("prod/app", child.Digest)).served(t, nil)
			r.get(manifests("prod/app", child.Digest)).served(t, child.Manifest)
			for _, b := range append(child.Layers, child.Config) {
				r.get(blobs("prod/app", b)).served(t, r.reg.Blob("prod/app", b))
			}
		}
	}
	check()
	r.restart()
	// After a restart the layers may be the first thing a client asks for.
	r.get(blobs("prod/app", one.Layers[0])).served(t, r.reg.Blob("prod/app", one.Layers[0]))
	r.restart()
	check()
}

// Facts are per repository: the same bytes next door start from nothing.
func TestPartsElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	for _, b := range append(image.Layers, image.Config) {
		r.reg.PushBlob("prod/other", r.reg.Blob("prod/app", b))
		r.refusedAt("a layer of another repository's image", blobs("prod/other", b))
	}
}

// DESIGN section 7: an index may stand inside an index inside an index, and
// what the innermost image lists is part of it all.
func TestNestedIndexes(t *testing.T) {
	t.Parallel()
	for depth, status := range map[int]int{1: 200, 2: 200, 3: 200, 4: 403} {
		t.Run(strconv.Itoa(depth), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image := r.reg.PushImage("prod/app", "")
			chain := []digest.Digest{image.Digest}
			for range depth {
				chain = append(chain, r.reg.PushIndex("prod/app", "", chain[len(chain)-1]))
			}
			r.reg.Sign("prod/app", chain[len(chain)-1], r.key)
			for i := len(chain) - 1; i > 0; i-- {
				r.get(manifests("prod/app", chain[i])).served(t, r.reg.Manifest("prod/app", chain[i]))
			}
			if g := r.get(manifests("prod/app", image.Digest)); g.status != status {
				t.Errorf("the image: status %d, want %d: %s", g.status, status, g.body)
			}
			if g := r.get(blobs("prod/app", image.Layers[0])); g.status != status {
				t.Errorf("its layer: status %d, want %d: %s", g.status, status, g.body)
			}
		})
	}
}

// Under children: own, each child needs a signature of its own.
func TestOwnChildren(t *testing.T) {
	t.Parallel()
	r := newRig(t, withPolicies(`
- {name: own, images: ["reg.example/prod/**"], children: own, authorities: [{key: KEY}]}
`))
	bare, signed := r.reg.PushImage("prod/app", ""), r.signed("")
	index := r.reg.PushIndex("prod/app", "v1", bare.Digest, signed.Digest)
	r.reg.Sign("prod/app", index, r.key)
	r.get(manifests("prod/app", "v1")).served(t, r.reg.Manifest("prod/app", index))
	r.refusedAt("a child without a signature", manifests("prod/app", bare.Digest))
	r.refusedAt("its layer", blobs("prod/app", bare.Layers[0]))
	r.get(manifests("prod/app", signed.Digest)).served(t, signed.Manifest)
	r.get(blobs("prod/app", signed.Layers[0])).served(t, r.reg.Blob("prod/app", signed.Layers[0]))
	// It is the index's policy that says so, whatever the child's own says.
	r.reload(withPolicies(`
- {name: own, digests: ["` + index.String() + `"], children: own, authorities: [{key: KEY}]}
- {name: prod, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}
`))
	r.clock.advance(time.Minute)
	r.get(manifests("prod/app", "v1")).served(t, r.reg.Manifest("prod/app", index))
	r.refusedAt("a child without a signature", manifests("prod/app", bare.Digest))
	r.refusedAt("its layer", blobs("prod/app", bare.Layers[0]))
}

// GHSA-qq97-vm5h-rrhg, GHSA-5j5w-g665-5m35: bytes that two readers would take
// for two things are served to none, signed or not.
func TestAmbiguousManifest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := string(r.reg.PushImage("prod/app", "").Manifest)
	index := string(r.reg.Manifest("prod/app", r.reg.PushIndex("prod/app", "", digest.FromString("x"))))
	for name, c := range map[string]struct{ body, mediaType string }{
		"image and index at once": {
			strings.Replace(image, `"layers"`, `"manifests":[],"layers"`, 1),
			hostile.ImageType,
		},
		"index and image at once": {
			strings.Replace(index, `"manifests"`, `"layers":[],"manifests"`, 1),
			hostile.IndexType,
		},
		"image served as index": {image, hostile.IndexType},
		"index served as image": {index, hostile.ImageType},
		"case variant beside":   {strings.Replace(image, `"layers"`, `"Layers":[],"layers"`, 1), hostile.ImageType},
		"case variant alone":    {strings.Replace(image, `"config"`, `"Config"`, 1), hostile.ImageType},
		"long s for s":          {strings.Replace(image, `"layers"`, `"layerſ":[],"layers"`, 1), hostile.ImageType},
		"key twice":             {strings.Replace(image, `"layers"`, `"layers":[],"layers"`, 1), hostile.ImageType},
		"escaped key twice": {
			strings.Replace(image, `"layers"`, `"l\u0061yers":[],"layers"`, 1),
			hostile.ImageType,
		},
		"schema 1": {
			`{"schemaVersion":1,"name":"a","fsLayers":[],"history":[]}`,
			"application/vnd.docker.distribution.manifest.v1+prettyjws",
		},
		"schema 1 called schema 2": {
			strings.Replace(image, `"layers"`, `"fsLayers":[],"history":[],"layers"`, 1),
			hostile.ImageType,
		},
		"schema 1 in the header":  {image, "application/vnd.docker.distribution.manifest.v1+json"},
		"trailing bytes":          {image + "\n{}", hostile.ImageType},
		"leading byte order mark": {"\ufeff" + image, hostile.ImageType},
		"not UTF-8":               {strings.Replace(image, "amd64", "\xff", 1) + "\xff", hostile.ImageType},
		"empty":                   {"", hostile.ImageType},
		"null":                    {"null", hostile.ImageType},
		"array":                   {"[]", hostile.ImageType},
		"unknown kind": {
			`{"schemaVersion":2,"mediaType":"application/vnd.example+json","config":{},"layers":[]}`,
			"application/vnd.example+json",
		},
		"CVE-2024-3727 digest": {
			strings.Replace(image, `"layers":[`, `"layers":[{"mediaType":"x","size":1,`+
				`"digest":"sha256:../../../etc/passwd"},`, 1),
			hostile.ImageType,
		},
		"digest in upper case": {
			strings.Replace(image, `"layers":[`, `"layers":[{"digest":"sha256:`+strings.Repeat("A", 64)+`"},`, 1),
			hostile.ImageType,
		},
		"too many layers": {
			strings.Replace(image, `"layers":[`, `"layers":[`+times(2001, `{"digest":"`+fillerDigest+`"}`)+",", 1),
			hostile.ImageType,
		},
		"nested a thousand deep":    {strings.Repeat("[", 1000) + strings.Repeat("]", 1000), hostile.ImageType},
		"content without mediaType": {`{"schemaVersion":2,"config":{},"layers":[]}`, "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			d := r.reg.PushRaw("prod/app", "x", c.mediaType, []byte(c.body))
			r.reg.Sign("prod/app", d, r.key)
			for _, reference := range []string{"x", d.String()} {
				r.get(manifests("prod/app", reference)).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
			}

			open := r.reg.PushRaw("open/app", "x", c.mediaType, []byte(c.body)) // static: allow changes nothing here
			r.get(manifests("open/app", open)).refused(t, http.StatusBadRequest, "MANIFEST_INVALID")
		})
	}
}

// Promise 2: the tag is resolved once, and those bytes are judged and served.
func TestSwappedTag(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string]func(good, bad digest.Digest) hostile.Trick{
		"HEAD good, GET bad": func(good, bad digest.Digest) hostile.Trick { return hostile.Swap("v1", good, bad) },
		"HEAD bad, GET good": func(good, bad digest.Digest) hostile.Trick { return hostile.Swap("v1", bad, good) },
		"alternating":        func(good, bad digest.Digest) hostile.Trick { return hostile.Alternate("v1", good, bad) },
		"alternating, bad 1": func(good, bad digest.Digest) hostile.Trick { return hostile.Alternate("v1", bad, good) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
			r.reg.On(swap(good.Digest, bad.Digest))
			for range 8 {
				for _, method := range []string{http.MethodHead, http.MethodGet} {
					g := r.do(method, manifests("prod/app", "v1"))
					switch g.status {
					case http.StatusForbidden:
					case http.StatusOK:
						if got := g.header.Get("Docker-Content-Digest"); got != good.Digest.String() {
							t.Fatalf("%s announced %s", method, got)
						}
						if method == http.MethodGet {
							g.served(t, good.Manifest)
						}
					default:
						t.Fatalf("%s: status %d: %s", method, g.status, g.body)
					}
				}
			}
		})
	}
}

// A conditional request is answered after the decision.
func TestConditionalRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good, bad := r.signed("good"), r.reg.PushImage("prod/app", "bad")
	etag := func(d digest.Digest) string { return `"` + d.String() + `"` }
	for _, c := range []struct {
		reference, ifNoneMatch string
		status                 int
	}{
		{"good", etag(good.Digest), http.StatusNotModified},
		{good.Digest.String(), `"x", ` + etag(good.Digest), http.StatusNotModified},
		{"good", etag(bad.Digest), http.StatusOK},
		{"bad", etag(bad.Digest), http.StatusForbidden},
		{bad.Digest.String(), etag(bad.Digest), http.StatusForbidden},
		{"bad", "*", http.StatusForbidden},
		{"missing", etag(bad.Digest), http.StatusNotFound},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			g := r.do(
				method,
				manifests("prod/app", c.reference),
				"If-None-Match",
				c.ifNoneMatch,
				"If-Modified-Since",
				"Mon, 01 Jan 2035 00:00:00 GMT",
			)
			if g.status != c.status {
				t.Errorf("%s %s, If-None-Match %s: status %d, want %d",
					method, c.reference, c.ifNoneMatch, g.status, c.status)
			}
			if g.status == http.StatusNotModified &&
				(len(g.body) > 0 || g.header.Get("ETag") == "" || g.header.Get("Pullgate-Decision") == "") {
				t.Errorf("304 with %d bytes and %v", len(g.body), g.header)
			}
		}
	}
	for _, q := range r.reg.Requests() {
		if q.Header.Get("If-None-Match")+q.Header.Get("If-Modified-Since") != "" {
			t.Errorf("conditional header reached the upstream: %s %v", q, q.Header)
		}
	}
}

// Promise 5's other half: what is remembered grants nothing. A new key denies
// manifest, child and layer at once, and the old one back admits them.
func TestPolicyChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	child := r.reg.PushImage("prod/app", "")
	index := r.reg.PushIndex("prod/app", "v1", child.Digest)
	r.reg.Sign("prod/app", index, r.key)
	paths := []string{
		manifests("prod/app", "v1"),
		manifests("prod/app", index),
		manifests("prod/app", child.Digest),
		blobs("prod/app", child.Config),
		blobs("prod/app", child.Layers[0]),
		blobs("prod/app", index),
		blobs("prod/app", child.Digest),
	}
	status := func(want int) {
		t.Helper()
		for _, path := range paths {
			if g := r.get(path); g.status != want {
				t.Errorf("%s: status %d, want %d: %s", path, g.status, want, g.body)
			}
		}
	}
	status(http.StatusOK)
	old := r.key
	r.key = newKey(t)
	r.reload()
	status(http.StatusForbidden)
	r.restart()
	status(http.StatusForbidden)
	r.key = old
	r.reload()
	status(http.StatusOK)
	r.reload(withPolicies(`
- {name: this, digests: ["` + index.String() + `"], static: deny}
- {name: prod, images: ["reg.example/prod/**"], authorities: [{key: KEY}]}
`))
	status(http.StatusForbidden)
	r.reload(withPolicies("[]"))
	status(http.StatusForbidden)
}

// What no policy can see is denied, and the mode of roll-out never weakens a
// written-out deny: section 5.
func TestStaticPolicies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for repo, status := range map[string]int{"open/app": 200, "closed/app": 403, "unlisted/app": 403} {
		image := r.reg.PushImage(repo, "v1")
		r.reg.Sign(repo, image.Digest, r.key)
		for _, path := range []string{
			manifests(repo, "v1"),
			manifests(repo, image.Digest),
			blobs(repo, image.Config),
			blobs(repo, image.Layers[0]),
		} {
			if g := r.get(path); g.status != status {
				t.Errorf("%s: status %d, want %d: %s", path, g.status, status, g.body)
			}
		}
	}
	r.reload(withMode(policy.Enforce), func(o *options) { o.action = "allow" })
	image := r.reg.PushImage("unlisted/other", "v1")
	r.get(manifests("unlisted/other", "v1")).served(t, image.Manifest)
}
