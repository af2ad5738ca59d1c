package proxy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// dsse is a bundle around a payload that key truly signed.
func dsse(t *testing.T, key *ecdsa.PrivateKey, material, payloadType, payload string) []byte {
	t.Helper()
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(
		nil,
		`{"mediaType":%q,"verificationMaterial":{%s},"dsseEnvelope":{"payload":%q,"payloadType":%q,`+
			`"signatures":[{"sig":%q}]}}`,
		bundleType,
		material,
		base64Of([]byte(payload)),
		payloadType,
		base64Of(signature),
	)
}

const (
	inToto        = "application/vnd.in-toto+json"
	hintOnly      = `"publicKey":{"hint":"x"}`
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
)

func statementOf(d digest.Digest, predicateType string) string {
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` +
		d.Encoded() + `"}}],"predicateType":"` + predicateType + `","predicate":{}}`
}

// bundled attaches a bundle to an image.
func (r *rig) bundled(image digest.Digest, bundle []byte) {
	r.reg.PushArtifact("prod/app", "", hostile.Artifact{
		Type:    bundleType,
		Layers:  []hostile.Layer{{MediaType: bundleType, Body: bundle}},
		Subject: image,
	})
}

// layered puts layers under an image's .sig tag.
func (r *rig) layered(image digest.Digest, layers ...hostile.Layer) {
	r.reg.PushArtifact("prod/app", hostile.SignatureTag(image), hostile.Artifact{Layers: layers})
}

func logEntryOfAnotherSignature(t *testing.T, _ *rig) {
	r, log := withLog(t)
	_, elsewhere := withLog(t)
	stranger := newKey(t)
	over := func(image digest.Digest, key *ecdsa.PrivateKey) hostile.Layer {
		return hostile.SignatureLayer(hostile.Payload("prod/app", image), key)
	}
	loggedBy := func(key *ecdsa.PrivateKey) func(digest.Digest) hostile.Layer {
		return func(image digest.Digest) hostile.Layer { return log.logged(over(image, key), key) }
	}
	good := r.reg.PushImage("prod/app", "")
	genuine := log.logged(over(good.Digest, r.key), r.key)

	const unproven, unknown = "no transparency log entry proves it", "another key, or altered"
	for _, c := range []struct {
		key   *ecdsa.PrivateKey
		entry func(image digest.Digest) hostile.Layer // whose entry is taken
		why   string
	}{
		{r.key, func(image digest.Digest) hostile.Layer { return over(image, r.key) }, unproven}, // it has none
		{r.key, func(digest.Digest) hostile.Layer { return genuine }, unproven},
		{r.key, loggedBy(r.key), unproven},
		{r.key, loggedBy(stranger), unproven},
		{stranger, func(digest.Digest) hostile.Layer { return genuine }, unknown},
	} {
		image := r.reg.PushImage("prod/app", "")
		layer := over(image.Digest, c.key)
		layer.Annotations[logAnnotation] = c.entry(image.Digest).Annotations[logAnnotation]
		r.layered(image.Digest, layer)
		r.refuses(t, image, c.why)
	}

	foreign := r.reg.PushImage("prod/app", "")
	r.layered(foreign.Digest, elsewhere.logged(over(foreign.Digest, r.key), r.key))
	r.refuses(t, foreign, unproven)
	theirs := r.reg.PushImage("prod/app", "")
	r.layered(theirs.Digest, log.logged(over(theirs.Digest, stranger), stranger))
	r.refuses(t, theirs, unknown)
	moved := r.reg.PushImage("prod/app", "") // the entry with its signature, over another payload
	layer := over(moved.Digest, r.key)
	layer.Annotations = genuine.Annotations
	r.layered(moved.Digest, layer)
	r.refuses(t, moved, unknown)

	r.layered(good.Digest, genuine)
	r.serves(t, good)
}

func attestationAsSignature(t *testing.T, r *rig) {
	for _, predicate := range []string{
		"https://slsa.dev/provenance/v1",
		"https://cosign.sigstore.dev/attestation/vuln/v1",
		"",
		signPredicate + "/",
		signPredicate + "2",
	} {
		image := r.reg.PushImage("prod/app", "")
		r.bundled(image.Digest, dsse(t, r.key, hintOnly, inToto, statementOf(image.Digest, predicate)))
		r.refuses(t, image, "none counts")
	}
	image := r.reg.PushImage("prod/app", "")
	att := strings.Replace(image.Digest.String(), ":", "-", 1) + ".att"
	layer := hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), r.key)
	r.reg.PushArtifact("prod/app", att, hostile.Artifact{Layers: []hostile.Layer{layer}})
	r.refuses(t, image, "no signature found") // a payload under .att is an attestation's place
	control := r.reg.PushImage("prod/app", "")
	r.bundled(control.Digest, dsse(t, r.key, hintOnly, inToto, statementOf(control.Digest, signPredicate)))
	r.serves(t, control)
}

func signatureOfAnother(t *testing.T, r *rig) {
	good := r.signed("")
	blob := r.reg.PushImage("prod/app", "")
	sum := sha256.Sum256(blob.Manifest)
	signature, err := ecdsa.SignASN1(rand.Reader, r.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	r.bundled(blob.Digest, fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{%s},`+
		`"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`,
		bundleType, hintOnly, base64Of(sum[:]), base64Of(signature)))
	r.refuses(t, blob, "none counts")
	moved := r.reg.PushImage("prod/app", "")
	r.bundled(moved.Digest, dsse(t, r.key, hintOnly, inToto, statementOf(good.Digest, signPredicate)))
	r.layered(moved.Digest, hostile.SignatureLayer(hostile.Payload("prod/app", good.Digest), r.key))
	r.refuses(t, moved, "none counts")
	both := r.reg.PushImage("prod/app", "") // an unsigned part beside a signed one
	text := string(dsse(t, r.key, hintOnly, inToto, statementOf(good.Digest, signPredicate)))
	unsigned := `"dsseEnvelope":{"payload":"` + base64Of([]byte(statementOf(both.Digest, signPredicate))) + `",`
	r.bundled(both.Digest, []byte(strings.Replace(text, `"dsseEnvelope":{`, unsigned, 1)))
	r.refuses(t, both, "none counts")
	r.serves(t, good)
}

func endlessSignatures(t *testing.T, r *rig) {
	image := r.reg.PushImage("prod/app", "")
	r.reg.On(hostile.EndlessPaging)
	layer := hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), newKey(t))
	r.layered(image.Digest, bytesOf(2000, layer)...)
	start := time.Now()
	r.refuses(t, image, "more than 1024 signatures over one payload")
	if n := len(r.reg.Requests()); n > 64+64+20 || time.Since(start) > pace(15*time.Second) {
		t.Errorf("%d requests, %s", n, time.Since(start))
	}
}

func longAttachment(t *testing.T, r *rig) {
	image := r.reg.PushImage("prod/app", "")
	large := r.reg.PushBlob("prod/app", random(2<<20))
	r.layered(image.Digest, hostile.Layer{MediaType: hostile.SimpleSigningType, Digest: large, Size: 1 << 30},
		hostile.Layer{
			MediaType: hostile.SimpleSigningType,
			Digest:    large,
			Size:      100,
		}, hostile.Layer{MediaType: hostile.SimpleSigningType, Digest: large, Size: -5})
	r.refuses(t, image, "no signature that could be examined")
}

func heapsOfLogEntries(t *testing.T, r *rig) {
	const everyHeap = "too many parts" // said of what is not even taken apart
	for n, words := range map[int][2]string{
		5:   {"log entries", "timestamps"},
		32:  {"log entries", "timestamps"},
		900: {everyHeap, everyHeap},
	} {
		image := r.reg.PushImage("prod/app", "")
		material := hintOnly + `,"tlogEntries":[` + times(n, `{"logIndex":"1","canonicalizedBody":"e30="}`) + `]`
		r.bundled(image.Digest, dsse(t, r.key, material, inToto, statementOf(image.Digest, signPredicate)))
		r.refuses(t, image, words[0])
		image = r.reg.PushImage("prod/app", "")
		material = hintOnly + `,"timestampVerificationData":{"rfc3161Timestamps":[` +
			times(n, `{"signedTimestamp":"eA=="}`) + `]}`
		r.bundled(image.Digest, dsse(t, r.key, material, inToto, statementOf(image.Digest, signPredicate)))
		r.refuses(t, image, words[1])
	}

	// Where entries are read, genuine ones by the heap are refused as well, and
	// so is one that is larger than any, or that leads to work without end.
	reads, log := withLog(t)
	repeated := func(n int) func([]string) []string {
		return func(entries []string) []string { return slices.Repeat(entries, n) }
	}
	large := func(entries []string) []string {
		body := base64Of([]byte(`{"apiVersion":"0.0.1","kind":"dsse","x":"` + strings.Repeat("x", 65<<10) + `"}`))
		return []string{regexp.MustCompile(`"canonicalizedBody":"[^"]*"`).
			ReplaceAllString(entries[0], `"canonicalizedBody":"`+body+`"`)}
	}
	for _, c := range []struct {
		change func([]string) []string
		why    string
	}{
		{repeated(2), "no transparency log entry proves it"},
		{repeated(5), "more than 4 log entries"},
		{repeated(20), "more than 4 log entries"},
		{repeated(60), everyHeap},
		{large, "larger than 64 KiB"},
	} {
		image := reads.reg.PushImage("prod/app", "")
		reads.bundled(image.Digest, log.bundled(image.Digest, reads.key, c.change))
		reads.refuses(t, image, c.why)
	}
	control := reads.reg.PushImage("prod/app", "")
	reads.bundled(control.Digest, log.bundled(control.Digest, reads.key, nil))
	reads.serves(t, control)
}

func foreignLogEntry(t *testing.T, r *rig) {
	image := r.reg.PushImage("prod/app", "")
	entry := `,"tlogEntries":[{"logIndex":"1","logId":{"keyId":"eA=="},"kindVersion":{"kind":"dsse",` +
		`"version":"0.0.1"},"integratedTime":"1","canonicalizedBody":"e30="}]`
	r.bundled(image.Digest, dsse(t, newKey(t), hintOnly+entry, inToto, statementOf(image.Digest, signPredicate)))
	r.refuses(t, image, "none counts")
	ours := r.reg.PushImage("prod/app", "") // nor does one, spelt as every client spells it, unmake our own
	r.bundled(ours.Digest, dsse(t, r.key, hintOnly+entry, inToto, statementOf(ours.Digest, signPredicate)))
	r.serves(t, ours)

	// Where an entry is demanded, that of another bundle is none: of another
	// image, by another key, or of the same statement signed once more.
	reads, log := withLog(t)
	stranger := newKey(t)
	var taken []string
	take := func(entries []string) []string { taken = entries; return entries }
	give := func([]string) []string { return taken }
	good := reads.reg.PushImage("prod/app", "")
	genuine := log.bundled(good.Digest, reads.key, take)
	fromGood := taken
	const unproven = "no transparency log entry proves it"
	for _, from := range []func(image digest.Digest){
		func(digest.Digest) { taken = nil },
		func(digest.Digest) { taken = fromGood },
		func(image digest.Digest) { log.bundled(image, stranger, take) },
		func(image digest.Digest) { log.bundled(image, reads.key, take) },
	} {
		image := reads.reg.PushImage("prod/app", "")
		from(image.Digest)
		reads.bundled(image.Digest, log.bundled(image.Digest, reads.key, give))
		reads.refuses(t, image, unproven)
	}
	reads.bundled(good.Digest, genuine)
	reads.serves(t, good)
}

func otherSignedPayload(t *testing.T, r *rig) {
	for _, c := range []struct{ payloadType, payload string }{
		{inToto, "no JSON"},
		{inToto, ""},
		{inToto, "null"},
		{inToto, "[]"},
		{
			inToto,
			`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"` +
				signPredicate + `","predicate":{}}`,
		},
		{
			inToto,
			`{"critical":{"image":{"docker-manifest-digest":"IMAGE"},"type":"cosign container image ` +
				`signature"}}`,
		},
		{
			"application/vnd.dev.cosign.simplesigning.v1+json",
			`{"critical":{"image":{"docker-manifest-digest":"IMAGE"},"type":"cosign container image ` +
				`signature"}}`,
		},
		{"text/plain", "STATEMENT"},
		{inToto + ";x=y", "STATEMENT"},
	} {
		image := r.reg.PushImage("prod/app", "")
		payload := strings.NewReplacer(
			"IMAGE", image.Digest.String(),
			"STATEMENT", statementOf(image.Digest, signPredicate),
		).Replace(c.payload)
		r.bundled(image.Digest, dsse(t, r.key, hintOnly, c.payloadType, payload))
		r.refuses(t, image, "none counts")
	}
	image := r.reg.PushImage("prod/app", "")
	payload := hostile.Payload("prod/app", image.Digest)
	atomic := bytes.Replace(payload, []byte("cosign container"), []byte("atomic container"), 1)
	r.layered(image.Digest,
		hostile.SignatureLayer([]byte("no JSON"), r.key),
		hostile.SignatureLayer([]byte("null"), r.key),
		hostile.SignatureLayer(atomic, r.key))
	r.refuses(t, image, "none counts")
}

func keyInBundle(t *testing.T, r *rig) {
	attacker := newKey(t)
	public, err := x509.MarshalPKIXPublicKey(&attacker.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	raw := base64Of(public)
	pemText := base64Of([]byte("-----BEGIN PUBLIC KEY-----\n" +
		raw + "\n-----END PUBLIC KEY-----\n"))
	for _, material := range []string{
		`"certificate":{"rawBytes":"` + raw + `"}`,
		`"certificate":{"rawBytes":"` + pemText + `"}`,
		`"x509CertificateChain":{"certificates":[{"rawBytes":"` + raw + `"}]}`,
		`"publicKey":{"hint":"` + raw + `"}`,
		`"publicKey":{"rawBytes":"` + raw + `"}`,
	} {
		image := r.reg.PushImage("prod/app", "")
		r.bundled(image.Digest, dsse(t, attacker, material, inToto, statementOf(image.Digest, signPredicate)))
		r.refuses(t, image, "none counts")
	}
	image := r.reg.PushImage("prod/app", "")
	layer := hostile.SignatureLayer(hostile.Payload("prod/app", image.Digest), attacker)
	layer.Annotations["dev.sigstore.cosign/certificate"] = "-----BEGIN PUBLIC KEY-----\n" +
		raw + "\n-----END PUBLIC KEY-----\n"
	r.layered(image.Digest, layer)
	r.refuses(t, image, "none counts")
}

func signatureDigest(t *testing.T, r *rig) {
	good, bad := r.signed(""), r.reg.PushImage("prod/app", "")
	moved := r.reg.Manifest("prod/app", r.reg.Sign("prod/app", good.Digest, r.key))
	r.reg.PushRaw("prod/app", hostile.SignatureTag(bad.Digest), hostile.ImageType, moved)
	r.refuses(t, bad, "for another image")
	for _, d := range []string{
		strings.ToUpper(bad.Digest.Encoded()),
		bad.Digest.Encoded() + " ",
		bad.Digest.Encoded()[:63],
	} {
		image := r.reg.PushImage("prod/app", "")
		r.layered(image.Digest, hostile.SignatureLayer(hostile.Payload("prod/app", digest.Digest("sha256:"+d)), r.key))
		r.refuses(t, image, "for another image")
	}
}

func goodAmongMany(t *testing.T, r *rig) {
	for _, c := range []struct{ bad, status int }{{63, 200}, {64, 200}, {1023, 200}, {1024, 200}, {1025, 403}} {
		image := r.reg.PushImage("prod/app", "")
		payload := hostile.Payload("prod/app", image.Digest)
		layers := bytesOf(c.bad, hostile.SignatureLayer(payload, newKey(t)))
		r.layered(image.Digest, append([]hostile.Layer{hostile.SignatureLayer(payload, r.key)}, layers...)...)
		g := r.get(manifests("prod/app", image.Digest))
		if g.status != c.status || g.status == 403 && !strings.Contains(string(g.body), "more than 1024 signatures") {
			t.Errorf("%d bad ones before it: %d %.500s", c.bad, g.status, g.body)
		}
	}
}
