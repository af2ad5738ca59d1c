package sigs

import (
	"bytes"
	"crypto/elliptic"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/encoding/protojson"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

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

	signature := signed.Annotations[AnnotationSignature]
	f.Add(signed.Payload, signature)
	f.Add(bundled.Payload, "")
	f.Add(append([]byte(" "), signed.Payload...), signature)
	f.Add(bytes.Replace(signed.Payload, []byte("prod"), []byte("dev"), 1), signature)
	f.Add([]byte(""), "")
	f.Add([]byte("null"), "AAAA")
	for _, repository := range []string{"acme/v3-attestation", "acme/v3-certificate", "acme/v3-p384", "acme/v3-ed25519", "acme/v2-rsa2048", "acme/v2-referrer"} {
		c, _ := genuine(f, set, repository)
		f.Add(c.Payload, c.Annotations[AnnotationSignature])
	}
	for _, part := range []string{`"verificationMaterial":{}`, `"dsseEnvelope":{}`, `"messageSignature":{}`,
		`"dsseEnvelope":{"payloadType":"` + inToto + `","signatures":[{}]}`,
		`"dsseEnvelope":{"payloadType":"` + inToto + `","signatures":[{}]},"verificationMaterial":{` + publicKey + `}`} {
		f.Add([]byte(`{"mediaType":"`+bundleV03+`",`+part+`}`), "")
	}

	f.Fuzz(func(t *testing.T, b []byte, signature string) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v: %q", p, b)
			}
		}()
		c := Candidate{Payload: b, Annotations: map[string]string{AnnotationSignature: signature}}
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
			t.Errorf("an artefact without layers: %q", b)
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
	f.Add(statementWith(subject("sha256", sum, `{"env":"prod"}`)+","+subject("sha512", sum, ""), signPredicate, `{"a":1}`))
	f.Add(statementWith(subject("sha256", sum, ""), "https://slsa.dev/provenance/v1", "{}"))
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
		if _, err := check(k, legacy(t, key, text), image); err == nil {
			if at(v, "critical", "image", "docker-manifest-digest") != image.String() || at(v, "critical", "type") != payloadType {
				t.Errorf("counts as a payload: %q", text)
			}
		}
		if _, err := check(k, bundleOf(t, key, text), image); err == nil {
			subjects, _ := at(v, "subject").([]any)
			// Protobuf's JSON knows a second spelling of the name.
			if at(v, "predicateType") != signPredicate && at(v, "predicate_type") != signPredicate || !slices.ContainsFunc(subjects, func(s any) bool {
				named, _ := at(s, "digest", "sha256").(string)
				return strings.EqualFold(named, sum) // upper case has a test of its own
			}) {
				t.Errorf("counts as a statement: %q", text)
			}
		}
	})
}

// FuzzCheckStrict: what it accepts is one valid JSON value, which survives
// being decoded and encoded, and in which a decoder into a struct sees what a
// decoder into a map sees.
func FuzzCheckStrict(f *testing.F) {
	for _, s := range []string{``, `{}`, `[]`, `null`, `{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"Layers":[]}`, `{"layers":[],"config":{}}`, `[1,]`, `{"a":1,}`,
		`{"annotations":{"A":1,"a":2}}`, "{\"\u212aey\":1}", `{"manife\u017fts":[]}`, `1e999`, `"\ud800"`, "\"\xff\"", `{}{}`, `{} `, `[[[[]]]]`,
		`[-0.5e+10,0,-1,01,1.,.5,1e,--1,+1]`, `[-0.5e+10,0,-1,1E-2]`, `{"a\u0041\n\/\"":"\ud834\udd1e\\"}`, `"\u00g0"`, `"\q"`, `"\u12`, `[true,false,null]`, `[tru]`, `[1 ,
		{"a" : 2}]`, `{,}`, `[,]`, `{"a":1,,}`, `[1}`, `{"a"}`, "[\"\x1f\"]", "[\"\x7f\"]", `{"env":{"predicate":{"K":1,"k":2}}}`} {
		f.Add([]byte(s))
	}
	f.Add([]byte(payload("sha256:" + strings.Repeat("a", 64))))
	f.Add([]byte(statementOf(strings.Repeat("a", 64))))
	decode := func(t *testing.T, b []byte) any {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber() // a number may be larger than Go can hold
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("accepted, but %v: %q", err, b)
		}
		return v
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		accepted := CheckStrict(b, maxDepth, maxTokens) == nil
		for _, limits := range [][2]int{{maxDepth, maxTokens}, {3, 12}, {1, 4}} {
			depth, tokens := limits[0], limits[1]
			if got, want := CheckStrict(b, depth, tokens) == nil, strictByTokens(b, depth, tokens); got != want {
				t.Errorf("depth %d, %d tokens: accepted: %t, by encoding/json: %t: %q", depth, tokens, got, want, b)
			}
		}
		if !accepted {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("accepted, but not valid: %q", b)
		}
		v := decode(t, b)
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(decode(t, again), v) {
			t.Errorf("%q encodes as %q", b, again)
		}
		if err := CheckStrict(again, maxDepth, maxTokens); err != nil {
			t.Errorf("%q is accepted, its encoding %q is not: %v", b, again, err)
		}
		object, ok := v.(map[string]any)
		if !ok {
			return
		}
		var fields struct {
			Layers    any `json:"layers"`
			Manifests any `json:"manifests"`
			Config    any `json:"config"`
			Critical  any `json:"critical"`
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		if err := dec.Decode(&fields); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]any{"layers": fields.Layers, "manifests": fields.Manifests, "config": fields.Config, "critical": fields.Critical} {
			if !reflect.DeepEqual(got, object[name]) {
				t.Errorf("%s is %v to one decoder and %v to another: %q", name, got, object[name], b)
			}
		}
	})
}
