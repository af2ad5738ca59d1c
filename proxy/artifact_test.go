package proxy_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// Section 6: signatures are unsigned themselves and must pass, so that clients
// can verify again.
func TestSignatureArtifact(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.signed("v1")
	payload := hostile.Payload("prod/app", image.Digest)
	config := hostile.SignatureConfig(digest.FromBytes(payload))
	legacy := r.reg.Sign("prod/app", image.Digest, newKey(t)) // not by our key, and still a signature
	referrer := r.reg.Attach("prod/app", image.Digest, r.key)
	statement := base64Of([]byte(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"a","digest":` +
		`{"sha256":"` + image.Digest.Encoded() + `"}}],"predicateType":"x","predicate":{}}`))
	envelope := []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"` + statement +
		`","signatures":[{"keyid":"","sig":"eA=="}]}`)
	attestation := r.reg.PushArtifact(
		"prod/app",
		strings.Replace(image.Digest.String(), ":", "-", 1)+".att",
		hostile.Artifact{
			Layers: []hostile.Layer{{MediaType: "application/vnd.dsse.envelope.v1+json", Body: envelope}},
		},
	)
	for _, path := range []string{
		manifests("prod/app", hostile.SignatureTag(image.Digest)),
		manifests("prod/app", legacy),
		manifests("prod/app", referrer),
		manifests("prod/app", attestation),
	} {
		if g := r.get(path); g.status != 200 {
			t.Fatalf("%s: %d %s", path, g.status, g.body)
		}
	}
	check := func() {
		t.Helper()
		r.get(blobs("prod/app", digest.FromBytes(payload))).served(t, payload)
		r.get(blobs("prod/app", digest.FromBytes(config))).served(t, config)
		r.get(blobs("prod/app", digest.FromBytes(envelope))).served(t, envelope)
	}
	check()
	r.restart()
	check()
	r.reg.PushArtifact(
		"closed/app",
		hostile.SignatureTag(image.Digest),
		hostile.Artifact{Layers: []hostile.Layer{hostile.SignatureLayer(payload, r.key)}},
	)
	r.refusedAt("a signature where nothing is allowed", manifests("closed/app", hostile.SignatureTag(image.Digest)))
	r.refusedAt("its payload", blobs("closed/app", digest.FromBytes(payload)))
}

// tarball is a layer whose first bytes read as JSON: a tar's first field is a
// file name.
func tarball(t *testing.T, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("evil")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Labels lie: whatever a refused image's parts are called, they are not
// signatures, and nothing of the image leaves.
func TestDisguisedImage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	subject := r.signed("v1")
	bad := r.reg.PushImage(
		"prod/app",
		"bad",
		tarball(t, "{}"),
		tarball(t, `{"critical":{"type":"cosign container image signature"}}`),
		random(3000),
	)
	runnable := r.reg.Blob("prod/app", bad.Config)
	payload := hostile.Payload("prod/app", subject.Digest)
	honest := hostile.Layer{MediaType: hostile.SimpleSigningType, Body: payload}
	dressed := func(mediaType string, i int) hostile.Layer {
		return hostile.Layer{
			MediaType: mediaType,
			Digest:    bad.Layers[i],
			Size:      len(r.reg.Blob("prod/app", bad.Layers[i])),
		}
	}
	body := func(mediaType string, b []byte) hostile.Layer { return hostile.Layer{MediaType: mediaType, Body: b} }
	script := append(bytes.Clone(payload), "\n#!/bin/sh\n"...)
	changed := func(from, to string) []hostile.Layer {
		other := bytes.Replace(payload, []byte(from), []byte(to), 1)
		return []hostile.Layer{body(hostile.SimpleSigningType, other)}
	}
	nothing := []byte(`{"mediaType":"` + bundleType + `"}`)
	const (
		simple   = hostile.SimpleSigningType
		dsse     = "application/vnd.dsse.envelope.v1+json"
		envelope = `{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"sig":"eA=="}]`
	)
	for name, a := range map[string]hostile.Artifact{
		"its layer as a payload":              {Layers: []hostile.Layer{dressed(simple, 2)}},
		"its layer beside a payload":          {Layers: []hostile.Layer{honest, dressed(simple, 2)}},
		"its layer after a payload as bundle": {Layers: []hostile.Layer{honest, dressed(bundleType, 2)}},
		"a tar that starts with {}":           {Layers: []hostile.Layer{dressed(simple, 0)}},
		"a tar that starts with {}, envelope": {Layers: []hostile.Layer{dressed(dsse, 0)}},
		"a tar that starts with a payload":    {Layers: []hostile.Layer{dressed(simple, 1)}},
		"a layer's own type":                  {Layers: []hostile.Layer{honest, dressed(hostile.LayerType, 2)}},
		"its config as the config": {
			ConfigType: hostile.ConfigType,
			Config:     runnable,
			Layers:     []hostile.Layer{honest},
		},
		"its config as the empty config": {
			ConfigType: hostile.EmptyType,
			Config:     runnable,
			Layers:     []hostile.Layer{honest},
		},
		"its config as a signature's": {
			ConfigType: hostile.SignatureType,
			Config:     runnable,
			Layers:     []hostile.Layer{honest},
		},
		"a tar as the empty config": {
			ConfigType: hostile.EmptyType,
			Config:     tarball(t, "{}"),
			Layers:     []hostile.Layer{honest},
		},
		"diff_ids of other layers": {
			ConfigType: hostile.ConfigType,
			Config:     hostile.SignatureConfig(bad.Layers[2]),
			Layers:     []hostile.Layer{honest},
		},
		"a config that runs something": {
			ConfigType: hostile.ConfigType,
			Config: []byte(`{"config":{"Cmd":["/x"]},"rootfs":{"diff_ids":["` +
				digest.FromBytes(payload).String() + `"]}}`),
			Layers: []hostile.Layer{honest},
		},
		"no layers":                       {Layers: []hostile.Layer{}},
		"payload and a script after it":   {Layers: []hostile.Layer{body(simple, script)}},
		"payload of another type":         {Layers: changed("cosign container image", "something")},
		"payload of no image":             {Layers: changed(subject.Digest.String(), "sha256:x")},
		"payload with its digest twice":   {Layers: changed(`"image":{`, `"image":{},"image":{`)},
		"payload, by the subject another": {Layers: []hostile.Layer{honest}, Subject: bad.Digest},
		"a blob under another size": {Layers: []hostile.Layer{{
			MediaType: simple,
			Digest:    digest.FromBytes(payload),
			Size:      3,
		}}},
		"a blob that is too large": {Layers: []hostile.Layer{{
			MediaType: simple,
			Digest:    bad.Layers[2],
			Size:      1 << 40,
		}}},
		"a negative size": {Layers: []hostile.Layer{{
			MediaType: simple,
			Digest:    bad.Layers[2],
			Size:      -1,
		}}},
		"a blob that is missing": {Layers: []hostile.Layer{
			honest,
			{MediaType: simple, Digest: digest.FromString("gone"), Size: 4},
		}},
		"an envelope of no statement": {Layers: []hostile.Layer{body(dsse, []byte(envelope+"}"))}},
		"an envelope with more in it": {Layers: []hostile.Layer{body(dsse, []byte(envelope+`,"more":"x"}`))}},
		"a bundle of nothing":         {Layers: []hostile.Layer{body(bundleType, nothing)}},
		"an artifact type alone": {
			Type:       hostile.SignatureType,
			ConfigType: hostile.ConfigType,
			Config:     runnable,
			Layers:     []hostile.Layer{dressed(hostile.LayerType, 2)},
		},
		"an unknown config type": {
			ConfigType: "application/vnd.example+json",
			Layers:     []hostile.Layer{honest},
		},
		"more payloads than are looked at":   {Layers: payloadsOf(65, subject.Digest)},
		"more signatures than are looked at": {Layers: bytesOf(1025, honest)},
	} {
		t.Run(name, func(t *testing.T) {
			tag := hostile.SignatureTag(subject.Digest)
			d := r.reg.PushArtifact("prod/app", tag, a)
			for _, path := range []string{manifests("prod/app", tag), manifests("prod/app", d), blobs("prod/app", d)} {
				r.refusedAt(name, path)
			}
			for _, b := range append(bad.Layers, bad.Config) {
				r.refusedAt("a part of the refused image", blobs("prod/app", b))
			}
		})
	}
	r.refusedAt("the image itself", manifests("prod/app", "bad"))
}

func bytesOf(n int, l hostile.Layer) []hostile.Layer {
	list := make([]hostile.Layer, n)
	for i := range list {
		list[i] = l
	}
	return list
}

// payloadsOf are n different payloads for image.
func payloadsOf(n int, image digest.Digest) []hostile.Layer {
	var list []hostile.Layer
	for i := range n {
		payload := hostile.Payload("prod/app", image, "n", strconv.Itoa(i))
		list = append(list, hostile.Layer{MediaType: hostile.SimpleSigningType, Body: payload})
	}
	return list
}

// TestSignatureTag: what stands under the tag of an image's signature names that
// image, or is judged as an image.
func TestSignatureTag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image, other := r.signed("v1"), r.signed("v2")
	payload := hostile.Payload("prod/app", image.Digest)
	legacy := hostile.Artifact{
		ConfigType: hostile.ConfigType,
		Config:     hostile.SignatureConfig(digest.FromBytes(payload)),
		Layers:     []hostile.Layer{hostile.SignatureLayer(payload, newKey(t))},
	}
	referrer := legacy
	referrer.Subject = image.Digest
	serves := func(t *testing.T, tag string, a hostile.Artifact, want int) {
		t.Helper()
		d := r.reg.PushArtifact("prod/app", tag, a)
		for range 2 { // once from memory
			if g := r.get(manifests("prod/app", tag)); g.status != want {
				t.Errorf("%s: %d %s", tag, g.status, g.body)
			}
		}
		r.get(manifests("prod/app", d)).served(t, r.reg.Manifest("prod/app", d))
	}

	for _, suffix := range []string{".sig", ".att", ".sbom", ""} {
		own := hostile.FallbackTag(image.Digest) + suffix
		another := hostile.FallbackTag(other.Digest) + suffix
		t.Run("own"+suffix, func(t *testing.T) { serves(t, own, legacy, http.StatusOK) })
		t.Run("another's"+suffix, func(t *testing.T) { serves(t, another, legacy, http.StatusForbidden) })
		t.Run("own"+suffix+" again", func(t *testing.T) { serves(t, own, legacy, http.StatusOK) })
		t.Run("referrer, own"+suffix, func(t *testing.T) { serves(t, own, referrer, http.StatusOK) })
		t.Run("referrer, another's"+suffix, func(t *testing.T) { serves(t, another, referrer, http.StatusForbidden) })
	}
	t.Run("another kind of tag", func(t *testing.T) { serves(t, "signature", legacy, http.StatusOK) })

	t.Run("read under the tag alone", func(t *testing.T) {
		fresh := newRig(t)
		d := fresh.signed("v1").Digest
		payload := hostile.Payload("prod/app", d)
		fresh.reg.Sign("prod/app", d, newKey(t))
		fresh.get(manifests("prod/app", hostile.SignatureTag(d)))
		fresh.get(blobs("prod/app", digest.FromBytes(payload))).served(t, payload)
	})
}

// TestDockerSignature: registries that take Docker's media types alone get
// signatures and attestations with those (COSIGN_DOCKER_MEDIA_TYPES).
func TestDockerSignature(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	payload := hostile.Payload("prod/app", image.Digest)
	d := r.reg.PushArtifact("prod/app", hostile.SignatureTag(image.Digest), hostile.Artifact{
		MediaType:  "application/vnd.docker.distribution.manifest.v2+json",
		ConfigType: "application/vnd.docker.container.image.v1+json",
		Config:     hostile.SignatureConfig(digest.FromBytes(payload)),
		Layers:     []hostile.Layer{hostile.SignatureLayer(payload, r.key)},
	})

	r.get(manifests("prod/app", "v1")).served(t, image.Manifest)
	r.get(manifests("prod/app", hostile.SignatureTag(image.Digest))).served(t, r.reg.Manifest("prod/app", d))
	r.get(blobs("prod/app", digest.FromBytes(payload))).served(t, payload)
}

// TestManySignatures: signatures by many keys share a payload, which is read
// once; clients find them all.
func TestManySignatures(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	image := r.reg.PushImage("prod/app", "v1")
	payload := hostile.Payload("prod/app", image.Digest)
	tag := hostile.SignatureTag(image.Digest)
	d := r.reg.PushArtifact("prod/app", tag, hostile.Artifact{
		Layers: bytesOf(200, hostile.SignatureLayer(payload, newKey(t))),
	})

	r.get(manifests("prod/app", tag)).served(t, r.reg.Manifest("prod/app", d))
	if n := r.reg.Count(hostile.Is(hostile.Blobs)); n > 10 {
		t.Errorf("%d blobs were fetched", n)
	}
}

// A whole image with its own types under a .sig tag is an image.
func TestImageUnderSignatureTag(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	signed := r.signed("v1")
	bad := r.reg.PushImage("prod/app", hostile.SignatureTag(digest.FromString("x")))
	index := r.reg.PushIndex("prod/app", hostile.SignatureTag(digest.FromString("y")), bad.Digest)
	list := r.reg.PushList("prod/app", hostile.SignatureTag(digest.FromString("z")), bad.Digest)
	for _, d := range []digest.Digest{bad.Digest, index, list} {
		r.refusedAt("under a .sig tag", manifests("prod/app", d))
	}
	for _, x := range []string{"x", "y", "z"} {
		r.refusedAt("under a .sig tag", manifests("prod/app", hostile.SignatureTag(digest.FromString(x))))
	}
	good := r.reg.PushRaw("prod/app", hostile.SignatureTag(digest.FromString("w")), hostile.ImageType, signed.Manifest)
	g := r.get(manifests("prod/app", hostile.SignatureTag(digest.FromString("w"))))
	g.served(t, r.reg.Manifest("prod/app", good))
}

// What is attached to a refused image admits nothing of it, and what is
// attached to an admitted one is judged by itself.
func TestArtifactSubject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := r.reg.PushImage("prod/app", "bad")
	good := r.signed("good")
	other := newKey(t)
	signature := r.reg.Attach("prod/app", bad.Digest, other)
	if g := r.get(manifests("prod/app", signature)); g.status != 200 { // truly signed, by an unknown key
		t.Fatalf("%d %s", g.status, g.body)
	}
	sbom := r.reg.PushArtifact("prod/app", "", hostile.Artifact{
		Type: "application/spdx+json", Subject: good.Digest,
		Layers: []hostile.Layer{{MediaType: "application/spdx+json", Body: []byte(`{"spdx":1}`)}},
	})
	r.get(manifests("prod/app", "good")).served(t, good.Manifest)
	r.refusedAt("an artifact attached to an admitted image", manifests("prod/app", sbom))
	for _, path := range []string{
		manifests("prod/app", "bad"),
		manifests("prod/app", bad.Digest),
		blobs("prod/app", bad.Digest),
		blobs("prod/app", bad.Config),
		blobs("prod/app", bad.Layers[0]),
	} {
		r.refusedAt("the subject", path)
	}
}

// Section 6: a fallback index passes only as bytes, is never learnt, and admits
// none of its children.
func TestFallbackIndexChild(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := r.reg.PushImage("prod/app", "bad")
	tag := hostile.FallbackTag(bad.Digest)
	list := r.reg.PushList("prod/app", tag, bad.Digest)
	for range 2 {
		r.head(manifests("prod/app", tag)).served(t, nil)
		r.get(manifests("prod/app", tag)).served(t, r.reg.Manifest("prod/app", list))
		for _, path := range []string{
			manifests("prod/app", bad.Digest),
			blobs("prod/app", bad.Config),
			blobs("prod/app", bad.Layers[0]),
			manifests("prod/app", list),
			blobs("prod/app", list),
		} {
			r.refusedAt("below a fallback tag", path)
		}
		r.restart()
	}
	for name, path := range map[string]string{
		"with platforms": tag,
		"another tag":    "sha256-x",
		"almost the tag": tag + "0",
		"a .sig suffix":  tag + ".sig",
		"upper case":     "sha256-" + strings.ToUpper(bad.Digest.Encoded()),
		"a plain tag":    "v1",
	} {
		if name == "with platforms" {
			r.reg.PushIndex("prod/app", path, bad.Digest)
		} else {
			r.reg.PushList("prod/app", path, bad.Digest)
		}
		r.refusedAt("an index "+name, manifests("prod/app", path))
	}
	r.reg.PushList("closed/app", tag)
	r.refusedAt("a fallback index where nothing is allowed", manifests("closed/app", tag))
	image := r.reg.PushImage("prod/app", hostile.FallbackTag(digest.FromString("y")))
	r.refusedAt("an image under a fallback tag", manifests("prod/app", image.Digest))
	r.refusedAt("an image under a fallback tag", manifests("prod/app", hostile.FallbackTag(digest.FromString("y"))))
}

// Entries without a platform are run by clients all the same when the index
// nests one that has them: the nested index is judged when it is asked for.
func TestNestedFallbackIndex(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := r.reg.PushImage("prod/app", "")
	inner := r.reg.PushIndex("prod/app", "", bad.Digest)
	outer := r.reg.PushList("prod/app", hostile.FallbackTag(bad.Digest), inner)
	r.get(manifests("prod/app", hostile.FallbackTag(bad.Digest))).served(t, r.reg.Manifest("prod/app", outer))
	for _, d := range []digest.Digest{inner, bad.Digest} {
		r.refusedAt("inside a fallback index", manifests("prod/app", d))
	}
}

// An artifact is passed for its blobs' sake: when those cannot be read, the
// answer is could-not-tell.
func TestUnreadableSignature(t *testing.T) {
	t.Parallel()
	for _, trick := range []hostile.Trick{
		hostile.Status(500),
		hostile.FlipBlob,
		hostile.Truncate,
		hostile.StallMidBody,
	} {
		r := newRig(t, ifStalling(trick))
		image := r.reg.PushImage("prod/app", "v1")
		d := r.reg.Sign("prod/app", image.Digest, r.key)
		r.reg.On(trick.At(hostile.Is(hostile.Blobs)))
		g := r.get(manifests("prod/app", d))
		if g.status != http.StatusServiceUnavailable && g.status != http.StatusBadGateway {
			t.Errorf("%s: %d %s", trick.Name, g.status, g.body)
		}
		r.mend()
		r.get(manifests("prod/app", d)).served(t, r.reg.Manifest("prod/app", d))
	}
}

// The payload format is ours to read and ours to write: a check that the
// simulator's signatures are what the gate takes for one.
func TestArtifactPayload(t *testing.T) {
	t.Parallel()
	var p struct {
		Critical struct {
			Type  string
			Image map[string]string
		}
	}
	d := digest.FromString("x")
	err := json.Unmarshal(hostile.Payload("prod/app", d), &p)
	if err != nil || p.Critical.Image["docker-manifest-digest"] != d.String() {
		t.Fatal(p, err)
	}
}
