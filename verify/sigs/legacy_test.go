package sigs

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/pullgate/pullgate/test/fixtures"
)

// payload is a simple-signing document for a digest, as cosign writes it.
func payload(d string) string { return payloadWith(d, "null") }

func payloadWith(d, optional string) string {
	return `{"critical":{"identity":{"docker-reference":"reg.example/app"},"image":{"docker-manifest-digest":"` + d +
		`"},"type":"cosign container image signature"},"optional":` + optional + `}`
}

// change returns a genuine candidate with one thing altered.
func change(c Candidate, alter func(*Candidate)) Candidate {
	c.Payload = append([]byte(nil), c.Payload...)
	c.Annotations = maps.Clone(c.Annotations)
	alter(&c)
	return c
}

func TestAlteredLegacy(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	k := authority(t, fixtureKey(t, set, "keys/p256.pub"))
	good, image := genuine(t, set, "acme/v2-annotations")
	allowed(t, k, good, image)
	other, otherImage := genuine(t, set, "acme/v2-p256")
	text := func(edit func(string) string) func(*Candidate) {
		return func(c *Candidate) { c.Payload = []byte(edit(string(c.Payload))) }
	}
	signature := func(s string) func(*Candidate) {
		return func(c *Candidate) { c.Annotations[AnnotationSignature] = s }
	}
	const altered, strict, encoding = "another key, or altered", "ambiguous or malformed JSON", "not base64"
	tests := []struct {
		name  string
		alter func(*Candidate)
		want  string
	}{
		{"payload of another image", func(c *Candidate) { c.Payload = other.Payload }, "for another image"},
		{"payload and signature of another image", func(c *Candidate) { *c = other }, "for another image"},
		{"another image's payload made to name this one", func(c *Candidate) {
			c.Payload = []byte(strings.ReplaceAll(string(other.Payload), otherImage.String(), image.String()))
			c.Annotations = other.Annotations
		}, altered},
		{"signature of another image", func(c *Candidate) { c.Annotations = other.Annotations }, altered},
		{
			"payload edited: an annotation",
			text(func(s string) string { return strings.Replace(s, "prod", "prad", 1) }),
			altered,
		},
		{
			"payload edited: the reference",
			text(func(s string) string { return strings.Replace(s, "fixtures.example", "registry.example", 1) }),
			altered,
		},
		{"payload re-encoded", func(c *Candidate) {
			var v any
			if err := json.Unmarshal(c.Payload, &v); err != nil {
				t.Fatal(err)
			}
			c.Payload, _ = json.MarshalIndent(v, "", " ")
		}, altered},
		{"a blank after the payload", text(func(s string) string { return s + "\n" }), altered},
		{"a blank before the payload", text(func(s string) string { return " " + s }), altered},
		{"bytes after the payload", text(func(s string) string { return s + "{}" }), strict},
		{"a NUL after the payload", text(func(s string) string { return s + "\x00" }), strict},
		{"a byte order mark before the payload", text(func(s string) string { return "\ufeff" + s }), strict},
		{"payload cut off", text(func(s string) string { return s[:len(s)-1] }), strict},
		{"payload empty", text(func(string) string { return "" }), strict},
		{"payload null", text(func(string) string { return "null" }), "type is not"},
		{"payload a list", text(func(s string) string { return "[" + s + "]" }), "no simple-signing document"},
		{"payload garbage", text(func(string) string { return "\x1f\x8b\x08garbage" }), strict},
		{"payload not UTF-8", text(func(s string) string { return strings.Replace(s, "prod", "pr\xffd", 1) }), strict},
		{
			"payload too large",
			text(func(s string) string { return s + strings.Repeat(" ", MaxPayload) }),
			"larger than",
		},
		{"no signature annotation", func(c *Candidate) { c.Annotations = nil }, "missing or too long"},
		{"signature annotation empty", signature(""), "missing or too long"},
		{"signature annotation under another name", func(c *Candidate) {
			c.Annotations = map[string]string{strings.ToUpper(AnnotationSignature): c.Annotations[AnnotationSignature]}
		}, "missing or too long"},
		{"signature annotation not base64", signature("%%%"), encoding},
		{"signature annotation URL-safe base64", signature("-_-_"), encoding},
		{"signature annotation without padding", signature("AAA"), encoding},
		{"signature annotation with a blank", signature(" AAAA"), encoding},
		{"signature annotation too long", signature(strings.Repeat("A", maxSignatureText+4)), "missing or too long"},
		{"signature annotation as long as may be", signature(strings.Repeat("A", maxSignatureText)), altered},
		{"signature garbage", signature("AAAA"), altered},
		{
			"signature of zeros (CVE-2022-21449)",
			signature(base64.StdEncoding.EncodeToString([]byte{0x30, 6, 2, 1, 0, 2, 1, 0})),
			altered,
		},
		{
			"bytes after the signature",
			signature(base64.StdEncoding.EncodeToString(append(decode(t, good), 0))),
			altered,
		},
		{"called a bundle", func(c *Candidate) { c.Kind = Bundle }, "no Sigstore bundle"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			denied(t, k, change(good, tt.alter), image, tt.want)
		})
	}
}

func decode(t *testing.T, c Candidate) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(c.Annotations[AnnotationSignature])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAmbiguousPayload: a payload that a trusted key signed counts only if it can
// be read in one way. These are truly signed, and still do not count.
func TestAmbiguousPayload(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image, other := digest.FromString("an image"), digest.FromString("another")
	good := payload(image.String())
	allowed(t, k, legacy(t, key, good), image)
	edit := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %q in the payload", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	const strict, field = "ambiguous or malformed JSON", `"docker-manifest-digest":`
	critical := good[len(`{"critical":`):strings.Index(good, `,"optional"`)]
	foreign := strings.Replace(critical, image.String(), other.String(), 1)
	for name, tt := range map[string]struct{ payload, want string }{
		"type missing": {edit(`,"type":"cosign container image signature"`, ""), "type is not"},
		"type empty":   {edit("cosign container image signature", ""), "type is not"},
		"type of atomic": {
			edit("cosign container image signature", "atomic container signature"),
			"type is not",
		},
		"type in another case":  {edit("cosign container", "Cosign container"), "type is not"},
		"type a number":         {edit(`"cosign container image signature"`, "1"), "no simple-signing document"},
		"critical missing":      {`{"optional":null}`, "type is not"},
		"critical null":         {`{"critical":null,"optional":null}`, "type is not"},
		"critical twice":        {`{"critical":` + foreign + `,"critical":` + critical + `}`, strict},
		"critical and Critical": {`{"critical":` + foreign + `,"Critical":` + critical + `}`, strict},
		"Critical alone":        {`{"Critical":` + critical + `}`, strict},
		"digest twice": {
			edit(field, `"docker-manifest-digest":"`+other.String()+`","docker-manifest-digest":`),
			strict,
		},
		"digest in two cases": {
			edit(field, `"docker-manifest-digest":"`+other.String()+`","Docker-Manifest-Digest":`),
			strict,
		},
		"digest with a Kelvin sign": {edit(`"docker-manifest-digest":`, `"doc\u212aer-manifest-digest":`), strict},
		"digest with a long s":      {edit(`"docker-manifest-digest":`, `"docker-manife\u017ft-digest":`), strict},
		"digest missing": {
			edit(`"docker-manifest-digest":"`+image.String()+`"`, ""),
			"for another image",
		},
		"digest empty":                {payload(""), "for another image"},
		"digest without algorithm":    {payload(image.Encoded()), "for another image"},
		"digest of another algorithm": {payload("sha512:" + image.Encoded()), "for another image"},
		"digest in upper case":        {payload("sha256:" + strings.ToUpper(image.Encoded())), "for another image"},
		"algorithm in upper case":     {payload("SHA256:" + image.Encoded()), "for another image"},
		"digest with a blank":         {payload(image.String() + " "), "for another image"},
		"digest with more after it":   {payload(image.String() + "@" + other.String()), "for another image"},
		"digest cut":                  {payload(image.String()[:70]), "for another image"},
		"digest with a line end":      {payload(image.String() + `\n\u001b[31m`), "for another image"},
		"digest very long":            {payload(strings.Repeat("a", 10_000)), "for another image"},
		"digest at the wrong place": {
			`{"critical":{"identity":{},"docker-manifest-digest":"` +
				image.String() + `","type":"cosign container image signature"}}`,
			"for another image",
		},
		"digest in optional": {
			payloadWith(other.String(), `{"docker-manifest-digest":"`+image.String()+`"}`),
			"for another image",
		},
		"two documents":                {good + good, strict},
		"an annotation twice":          {payloadWith(image.String(), `{"env":"prod","env":"dev"}`), strict},
		"an annotation twice, escaped": {payloadWith(image.String(), `{"env":"prod","\u0065nv":"dev"}`), strict},
		"nested too deeply": {
			payloadWith(image.String(), `{"a":`+strings.Repeat("[", maxDepth)+strings.Repeat("]", maxDepth)+`}`),
			strict,
		},
		"too many parts": {
			payloadWith(image.String(), `{"a":[`+strings.Repeat("1,", maxTokens)+`1]}`),
			strict,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			denied(t, k, legacy(t, key, tt.payload), image, tt.want)
		})
	}
}

func TestSignedAnnotations(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image := digest.FromString("an image")
	for name, tt := range map[string]struct {
		optional string
		want     map[string]string
	}{
		"none": {`null`, map[string]string{}},
		"dots and capitals": {
			`{"Team.Name":"A","team.name":"a","env.prod":"yes"}`,
			map[string]string{"Team.Name": "A", "team.name": "a", "env.prod": "yes"},
		},
		"names of the format": {
			`{"Type":"a","critical":"b","CRITICAL":"c","digest":"d"}`,
			map[string]string{"Type": "a", "critical": "b", "CRITICAL": "c", "digest": "d"},
		},
		"letters that fold": {
			"{\"\u212aey\":\"kelvin\",\"key\":\"k\",\"\u017fet\":\"long\",\"set\":\"s\"}",
			map[string]string{"\u212aey": "kelvin", "key": "k", "\u017fet": "long", "set": "s"},
		},
		"others than strings": {
			`{"creator":"x","timestamp":1700000000,"a":null,"b":{},"c":[],"d":true}`,
			map[string]string{"creator": "x"},
		},
		"empty name, empty value": {`{"":"","x":""}`, map[string]string{"": "", "x": ""}},
	} {
		if got := allowed(
			t,
			k,
			legacy(t, key, payloadWith(image.String(), tt.optional)),
			image,
		).Annotations; !maps.Equal(
			got,
			tt.want,
		) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	for _, optional := range []string{`"env"`, `[]`, `7`} {
		denied(t, k, legacy(t, key, payloadWith(image.String(), optional)), image, "no simple-signing document")
	}
}

func TestUnsignedAnnotations(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image := digest.FromString("an image")
	c := legacy(t, key, payload(image.String()))
	c.Annotations["env"] = "prod"
	if who := allowed(t, k, c, image); len(who.Annotations) != 0 {
		t.Errorf("annotations %v, want none", who.Annotations)
	}
}

func TestLegacyCertificate(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	c, image := genuine(t, set, "acme/v2-certificate")
	if !strings.Contains(c.Annotations[annotationCertificate], "BEGIN CERTIFICATE") {
		t.Fatal("the fixture has no certificate")
	}
	allowed(t, authority(t, fixtureKey(t, set, "keys/p256.pub")), c, image)
	k := authority(t, fixtureKey(t, set, "keys/other.pub"))
	denied(t, k, c, image, "made with a certificate (keyless)")
	c = change(c, func(c *Candidate) { c.Annotations[annotationCertificate] = "garbage" })
	denied(t, k, c, image, "made with a certificate (keyless)")
}

func TestRSASignatureLength(t *testing.T) {
	t.Parallel()
	key := newKeys(t)["RSA"]
	k := authority(t, policyKey(t, key.Public(), "k"))
	image := digest.FromString("an image")
	good := legacy(t, key, payload(image.String()))
	sig := decode(t, good)
	for name, other := range map[string][]byte{
		"one byte less":       sig[:len(sig)-1],
		"one byte more":       append(append([]byte(nil), sig...), 0),
		"a zero in front":     append([]byte{0}, sig...),
		"as of an 4096 key":   append(make([]byte, 256), sig...),
		"one":                 {1},
		"one, of full length": append(make([]byte, 255), 1),
		"zero":                make([]byte, 256),
		"modulus":             key.Public().(*rsa.PublicKey).N.Bytes(),
		"of PSS, other bytes": signRSA(t, key, []byte("other bytes"), pssOf(crypto.SHA256)),
		"of SHA-1":            signRSA(t, key, good.Payload, crypto.SHA1),
		"of PSS over SHA-1":   signRSA(t, key, good.Payload, pssOf(crypto.SHA1)),
	} {
		c := change(
			good,
			func(c *Candidate) { c.Annotations[AnnotationSignature] = base64.StdEncoding.EncodeToString(other) },
		)
		t.Run(name, func(t *testing.T) { denied(t, k, c, image, "another key, or altered") })
	}
}

// signRSA signs message as opts says, which cosign does for a key that it does
// not hold itself.
func signRSA(t testing.TB, key crypto.Signer, message []byte, opts crypto.SignerOpts) []byte {
	t.Helper()
	h := opts.HashFunc().New()
	h.Write(message)
	sig, err := key.Sign(rand.Reader, h.Sum(nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func pssOf(h crypto.Hash) *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
}

// rsaWays are the paddings and hashes that key services offer for RSA keys.
var rsaWays = map[string]crypto.SignerOpts{
	"PKCS1v15 SHA-256":      crypto.SHA256,
	"PKCS1v15 SHA-384":      crypto.SHA384,
	"PKCS1v15 SHA-512":      crypto.SHA512,
	"PSS SHA-256":           pssOf(crypto.SHA256),
	"PSS SHA-384":           pssOf(crypto.SHA384),
	"PSS SHA-512":           pssOf(crypto.SHA512),
	"PSS SHA-256, any salt": &rsa.PSSOptions{SaltLength: 20, Hash: crypto.SHA256},
}

func TestRSAWays(t *testing.T) {
	t.Parallel()
	key := newKeys(t)["RSA"]
	k := authority(t, policyKey(t, key.Public(), "k"))
	image := digest.FromString("an image")
	text, statement := payload(image.String()), statementOf(image.Encoded())

	for name, opts := range rsaWays {
		t.Run(name+"/legacy", func(t *testing.T) {
			c := legacy(t, key, text)
			signature := signRSA(t, key, []byte(text), opts)
			c.Annotations[AnnotationSignature] = base64.StdEncoding.EncodeToString(signature)
			allowed(t, k, c, image)

			c.Payload = []byte(payloadWith(image.String(), "{}"))
			denied(t, k, c, image, "another key, or altered")
		})
		t.Run(name+"/bundle", func(t *testing.T) {
			b := &protobundle.Bundle{}
			unmarshal(t, bundleOf(t, key, statement).Payload, b)
			b.GetDsseEnvelope().GetSignatures()[0].Sig = signRSA(t, key, pae(inToto, statement), opts)
			allowed(t, k, bundled(t, b), image)
		})
	}
}

func TestLegacySHA512(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image := digest.SHA512.FromString("an image")
	allowed(t, k, legacy(t, key, payload(image.String())), image)
	denied(t, k, legacy(t, key, payload(digest.FromString("an image").String())), image, "for another image")
	denied(t, k, legacy(t, key, payload("sha512:"+image.Encoded()[:64])), image, "for another image")
}
