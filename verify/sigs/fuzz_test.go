package sigs

import (
	"bytes"
	"crypto/elliptic"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/encoding/protojson"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/fixtures"
)

// FuzzVerify: nothing counts as a signature of the image but the bytes that
// were signed, and nothing panics. The private key is gone, so there is no
// other way to an allow.
func FuzzVerify(f *testing.F) {
	set := fixtures.Load(f)
	k := authority(f, fixtureKey(f, set, "keys/p256.pub"))
	signed, signedImage := genuine(f, set, "acme/v2-annotations")
	bundled, bundledImage := genuine(f, set, "acme/v3-annotations")
	parse := func(b []byte) *protobundle.Bundle {
		pb := &protobundle.Bundle{}
		if err := protojson.Unmarshal(b, pb); err != nil {
			return nil
		}
		return pb
	}
	want := parse(bundled.Payload).GetDsseEnvelope().GetPayload()
	annotations := map[string]string{"env": "prod", "Team.Name": "Platform", "build.Number": "7"}

	// No signer that these trust has signed anything.
	elsewhere := newCorporate(f)
	strangers := map[string]*Authority{
		"identity":      elsewhere.keyless.trust(f),
		"PKI":           elsewhere.trusts(f),
		"demanding key": witnessed(f, elsewhere.keyless, newECDSA(f, elliptic.P256()), true, true),
	}

	signature := signed.Annotations[AnnotationSignature]
	f.Add(signed.Payload, signature)
	f.Add(bundled.Payload, "")
	f.Add(append([]byte(" "), signed.Payload...), signature)
	f.Add(bytes.Replace(signed.Payload, []byte("prod"), []byte("dev"), 1), signature)
	f.Add([]byte(""), "")
	f.Add([]byte("null"), "AAAA")
	for _, repository := range []string{
		"acme/v3-attestation",
		"acme/v3-certificate",
		"acme/v3-p384",
		"acme/v3-ed25519",
		"acme/v2-rsa2048",
		"acme/v2-referrer",
	} {
		c, _ := genuine(f, set, repository)
		f.Add(c.Payload, c.Annotations[AnnotationSignature])
	}
	for _, part := range []string{
		`"verificationMaterial":{}`, `"dsseEnvelope":{}`, `"messageSignature":{}`,
		`"dsseEnvelope":{"payloadType":"` + inToto + `","signatures":[{}]}`,
		`"dsseEnvelope":{"payloadType":"` + inToto + `","signatures":[{}]},"verificationMaterial":{` + publicKey + `}`,
	} {
		f.Add([]byte(`{"mediaType":"`+bundleV03+`",`+part+`}`), "")
	}

	f.Fuzz(func(t *testing.T, b []byte, signature string) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v: %q", p, b)
			}
		}()
		c := Candidate{Payload: b, Annotations: map[string]string{AnnotationSignature: signature}}
		for _, kind := range []Kind{Legacy, Bundle, Envelope} {
			c.Kind = kind
			for name, a := range strangers {
				for _, image := range []digest.Digest{signedImage, bundledImage} {
					if who, err := check(a, c, image); err == nil {
						t.Errorf("counts for an %s as %+v: %q", name, who, b)
					}
				}
			}
		}
		c.Kind = Legacy
		if who, err := check(k, c, signedImage); err == nil {
			if !bytes.Equal(b, signed.Payload) {
				t.Errorf("counts as %+v: %q", who, b)
			}
			if !maps.Equal(who.Annotations, annotations) {
				t.Errorf("annotations %v", who.Annotations)
			}
		}
		c.Kind = Bundle
		if who, err := check(k, c, bundledImage); err == nil {
			if got := parse(b); got == nil || !bytes.Equal(got.GetDsseEnvelope().GetPayload(), want) {
				t.Errorf("counts as %+v: %q", who, b)
			}
			if !maps.Equal(who.Annotations, annotations) {
				t.Errorf("annotations %v", who.Annotations)
			}
		}
		for _, mediaType := range []string{MediaTypeSimpleSigning, MediaTypeDSSE, bundleV03} {
			if CheckLayer(Blob{MediaType: mediaType}, b, signedImage) == nil && !json.Valid(b) {
				t.Errorf("passes as %s with something around it: %q", mediaType, b)
			}
		}
		if a, ok := ParseArtifact(b); ok && (a == nil || len(a.Layers) == 0) {
			t.Errorf("an artifact without layers: %q", b)
		}
	})
}

// FuzzSigned: of what a trusted key truly signed, only that counts which any
// JSON parser reads as a signature of the image.
func FuzzSigned(f *testing.F) {
	key := newECDSA(f, elliptic.P256())
	k := authority(f, policyKey(f, key.Public(), "k"))
	image := digest.FromString("an image")
	sum := image.Encoded()
	f.Add(payload(image.String()))
	f.Add(payloadWith(image.String(), `{"env":"prod"}`))
	f.Add(statementOf(sum))
	f.Add(
		statementWith(
			subject("sha256", sum, `{"env":"prod"}`)+","+subject("sha512", sum, ""),
			signPredicate,
			`{"a":1}`,
		),
	)
	f.Add(statementWith(subject("sha256", sum, ""), "https://slsa.dev/provenance/v1", "{}"))
	c := newCorporate(f)
	s := c.signed(f)
	certified := c.trusts(f)
	at := func(v any, path ...string) any {
		for _, name := range path {
			m, _ := v.(map[string]any)
			v = m[name]
		}
		return v
	}
	f.Fuzz(func(t *testing.T, text string) {
		var v any
		_ = json.Unmarshal([]byte(text), &v)
		_, byKey := check(k, legacy(t, key, text), image)
		_, byPKI := check(certified, s.legacy(t, text), image)
		if (byKey == nil) != (byPKI == nil) {
			t.Errorf("by key: %v, by certificate: %v: %q", byKey, byPKI, text)
		}
		if byKey == nil {
			if at(v, "critical", "image", "docker-manifest-digest") != image.String() ||
				at(v, "critical", "type") != payloadType {
				t.Errorf("counts as a payload: %q", text)
			}
		}
		_, byKey = check(k, bundleOf(t, key, text), image)
		_, byPKI = check(certified, s.bundle(t, text), image)
		if byKey != nil && byPKI == nil { // sigstore-go reads the statement too, and refuses more
			t.Errorf("by key: %v, but by certificate it counts: %q", byKey, text)
		}
		if byKey == nil {
			subjects, _ := at(v, "subject").([]any)
			// Protobuf's JSON knows a second spelling of the name.
			if at(v, "predicateType") != signPredicate && at(v, "predicate_type") != signPredicate ||
				!slices.ContainsFunc(subjects, func(s any) bool {
					named, _ := at(s, "digest", "sha256").(string)
					return strings.EqualFold(named, sum) // upper case has a test of its own
				}) {
				t.Errorf("counts as a statement: %q", text)
			}
		}
	})
}

// FuzzEvidence: of a genuine signature with all its evidence, spliced anywhere,
// nothing counts but what its signer signed, and nothing panics. The keys are
// made anew in each process, so the input is the splice and not the signature.
func FuzzEvidence(f *testing.F) {
	c := newCorporate(f)
	demanding := func(p *policy.Authority) { p.Timestamp = true }
	statement := statementOf(c.image.Encoded())
	people := c.keyless.signed(f)
	engineers := altered(c.signed(f), func(s *signing) { s.unlogged, s.unstamped = false, false })
	type genuine struct {
		authority *Authority
		candidate Candidate
		signer    string
		says      string
	}
	list := []genuine{
		{c.keyless.trust(f, demanding), people.legacy(f, payload(c.image.String())), somebody, ""},
		{c.keyless.trust(f, demanding), people.bundle(f, statement), somebody, statement},
		{c.keyless.trust(f, demanding), people.envelope(f, statement), somebody, statement},
		{identified(f, c.stack, demanding), c.bundleBy(f, somebody, someIssuer, statement), somebody, statement},
		{c.trusts(f, mustBeStamped, mustBeLogged), engineers.legacy(f, payload(c.image.String())), release, ""},
		{c.trusts(f, mustBeStamped, mustBeLogged), engineers.bundle(f, statement), release, statement},
	}
	parts := []string{
		"",
		AnnotationSignature,
		annotationCertificate,
		annotationChain,
		annotationLogEntry,
		annotationTimestamp,
	}
	for i, g := range list {
		if _, err := check(g.authority, g.candidate, c.image); err != nil {
			f.Fatalf("%d: %v", i, err)
		}
		for part := range parts {
			f.Add(byte(i), byte(part), uint16(0), uint16(0), []byte(nil))
			f.Add(byte(i), byte(part), uint16(20), uint16(5), []byte("x"))
		}
	}
	f.Fuzz(func(t *testing.T, which, part byte, at, cut uint16, insert []byte) {
		g := list[int(which)%len(list)]
		splice := func(b []byte) []byte {
			from := min(int(at), len(b))
			return slices.Concat(b[:from], insert, b[min(from+int(cut), len(b)):])
		}
		c2 := change(g.candidate, func(c *Candidate) {
			if name := parts[int(part)%len(parts)]; name != "" && c.Annotations != nil {
				c.Annotations[name] = string(splice([]byte(c.Annotations[name])))
			} else {
				c.Payload = splice(c.Payload)
			}
		})
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v", p)
			}
		}()
		who, err := check(g.authority, c2, c.image)
		if err != nil {
			return
		}
		if who.Subject != g.signer || string(who.Statement) != g.says ||
			g.says == "" && !bytes.Equal(c2.Payload, g.candidate.Payload) {
			t.Errorf("counts as %+v: %q", who, c2.Payload)
		}
	})
}
