package sigs

import (
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/fixtures"
	"github.com/pullgate/pullgate/verify/oci"
)

// statement is an in-toto statement for a sha256 sum, as cosign 3 writes it.
func statementOf(sum string) string {
	return statementWith(subject("sha256", sum, ""), signPredicate, "{}")
}

func statementWith(subjects, predicateType, predicate string) string {
	return `{"_type":"https://in-toto.io/Statement/v1","subject":[` +
		subjects + `],"predicateType":"` + predicateType + `","predicate":` + predicate + `}`
}

func subject(algorithm, sum, annotations string) string {
	if annotations != "" {
		annotations = `,"annotations":` + annotations
	}
	return `{"digest":{"` + algorithm + `":"` + sum + `"}` + annotations + `}`
}

// pae is what a DSSE signature signs (DSSE protocol, v1).
func pae(payloadType, payload string) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

const (
	bundleV03 = "application/vnd.dev.sigstore.bundle.v0.3+json"
	publicKey = `"publicKey":{"hint":"a hint"}`
)

// bundleOf is a bundle around a statement that key truly signed.
func bundleOf(t testing.TB, key crypto.Signer, statement string) Candidate {
	t.Helper()
	return bundleFrom(envelope(t, key, inToto, statement), publicKey)
}

func bundleFrom(content, material string) Candidate {
	return Candidate{
		Kind:    Bundle,
		Payload: []byte(`{"mediaType":"` + bundleV03 + `","verificationMaterial":{` + material + `},` + content + `}`),
	}
}

func envelope(t testing.TB, keys any, payloadType, payload string) string {
	t.Helper()
	var list []string
	signers, ok := keys.([]crypto.Signer)
	if !ok {
		signers = []crypto.Signer{keys.(crypto.Signer)}
	}
	for _, key := range signers {
		list = append(list, `{"sig":"`+base64.StdEncoding.EncodeToString(sign(t, key, pae(payloadType, payload)))+`"}`)
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(payload))
	return `"dsseEnvelope":{"payload":"` + encoded + `","payloadType":"` + payloadType +
		`","signatures":[` + strings.Join(list, ",") + `]}`
}

// mutateJSON changes one JSON document by way of a map.
func mutateJSON(t *testing.T, b []byte, alter func(m map[string]any)) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	alter(m)
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAlteredBundle(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	k := authority(t, fixtureKey(t, set, "keys/p256.pub"))
	good, image := genuine(t, set, "acme/v3-annotations")
	allowed(t, k, good, image)
	other, otherImage := genuine(t, set, "acme/v3-p256")
	certified, _ := genuine(t, set, "acme/v3-certificate")
	attested, attestedImage := genuine(t, set, "acme/v3-attestation")
	denied(t, k, attested, attestedImage, "attestation")
	get := func(m map[string]any, keys ...string) map[string]any {
		for _, key := range keys {
			m, _ = m[key].(map[string]any)
		}
		return m
	}
	fields := func(alter func(m map[string]any)) func(*testing.T, *Candidate) {
		return func(t *testing.T, c *Candidate) { c.Payload = mutateJSON(t, c.Payload, alter) }
	}
	payload := func(edit func(string) string) func(*testing.T, *Candidate) {
		return fields(func(m map[string]any) {
			e := get(m, "dsseEnvelope")
			b, err := base64.StdEncoding.DecodeString(e["payload"].(string))
			if err != nil {
				panic(err)
			}
			e["payload"] = base64.StdEncoding.EncodeToString([]byte(edit(string(b))))
		})
	}
	material := func(name string, value any) func(*testing.T, *Candidate) {
		return fields(func(m map[string]any) { m["verificationMaterial"] = map[string]any{name: value} })
	}
	signatures := func(list ...any) func(*testing.T, *Candidate) {
		return fields(func(m map[string]any) { get(m, "dsseEnvelope")["signatures"] = list })
	}
	text := func(edit func(string) string) func(*testing.T, *Candidate) {
		return func(_ *testing.T, c *Candidate) { c.Payload = []byte(edit(string(c.Payload))) }
	}
	var goodSignature, otherSignature any
	mutateJSON(t, good.Payload, func(m map[string]any) {
		goodSignature = get(m, "dsseEnvelope")["signatures"].([]any)[0]
	})
	mutateJSON(t, other.Payload, func(m map[string]any) {
		otherSignature = get(m, "dsseEnvelope")["signatures"].([]any)[0]
	})
	certificate := map[string]any{"rawBytes": "AAAA"}
	const (
		altered    = "another key, or altered"
		strict     = "ambiguous or malformed JSON"
		incomplete = "incomplete or of an unknown version"
	)
	tests := []struct {
		name  string
		alter func(*testing.T, *Candidate)
		want  string
	}{
		{"bundle of another image", func(_ *testing.T, c *Candidate) { *c = other }, "not about this image"},
		{"statement edited to name this image", func(t *testing.T, c *Candidate) {
			*c = change(other, func(c *Candidate) {})
			payload(func(s string) string { return strings.ReplaceAll(s, otherImage.Encoded(), image.Encoded()) })(t, c)
		}, altered},
		{
			"statement edited: an annotation",
			payload(func(s string) string { return strings.Replace(s, "prod", "prad", 1) }),
			altered,
		},
		{"attestation's statement edited to be a signature's (GHSA-w6c6-c85g-mmv6)", func(t *testing.T, c *Candidate) {
			*c = change(attested, func(c *Candidate) {})
			payload(func(s string) string {
				s = strings.ReplaceAll(s, attestedImage.Encoded(), image.Encoded())
				return strings.Replace(s, "https://cosign.sigstore.dev/attestation/v1", signPredicate, 1)
			})(t, c)
		}, altered},
		{"a blank after the statement", payload(func(s string) string { return s + " " }), altered},
		{"statement empty", payload(func(string) string { return "" }), ""},
		{"statement garbage", payload(func(string) string { return "\x1f\x8b" }), ""},
		{"payload missing", fields(func(m map[string]any) { delete(get(m, "dsseEnvelope"), "payload") }), ""},
		{
			"payload type of something else",
			fields(func(m map[string]any) { get(m, "dsseEnvelope")["payloadType"] = "text/plain" }),
			"no in-toto statement",
		},
		{
			"payload type in another case",
			fields(func(m map[string]any) { get(m, "dsseEnvelope")["payloadType"] = "application/vnd.in-toto+JSON" }),
			"no in-toto statement",
		},
		{
			"payload type missing",
			fields(func(m map[string]any) { delete(get(m, "dsseEnvelope"), "payloadType") }),
			"no in-toto statement",
		},
		{"no signature", signatures(), ""},
		{"signature of another statement", signatures(otherSignature), altered},
		{"the right signature twice", signatures(goodSignature, goodSignature), ""},
		{"the right signature and another", signatures(goodSignature, otherSignature), ""},
		{"another signature and the right one", signatures(otherSignature, goodSignature), ""},
		{"signature empty", signatures(map[string]any{"sig": ""}), ""},
		{"signature garbage", signatures(map[string]any{"sig": "AAAA"}), altered},
		{
			"signature very long",
			signatures(map[string]any{"sig": strings.Repeat("A", 4*maxSignatureText)}),
			"longer than any is",
		},
		{"envelope missing", fields(func(m map[string]any) { delete(m, "dsseEnvelope") }), "no in-toto statement"},
		{"envelope null", fields(func(m map[string]any) { m["dsseEnvelope"] = nil }), "no in-toto statement"},
		{
			"material missing",
			fields(func(m map[string]any) { delete(m, "verificationMaterial") }),
			"no verification material",
		},
		{
			"material null",
			fields(func(m map[string]any) { m["verificationMaterial"] = nil }),
			"no verification material",
		},
		{"material empty", fields(func(m map[string]any) { m["verificationMaterial"] = map[string]any{} }), incomplete},
		{"a certificate", material("certificate", certificate), "made with a certificate"},
		{
			"a chain of one",
			material("x509CertificateChain", map[string]any{"certificates": []any{certificate}}),
			"made with a certificate",
		},
		{"a chain of none", material("x509CertificateChain", map[string]any{}), "made with a certificate"},
		{
			"a chain of eight",
			material("x509CertificateChain", map[string]any{"certificates": repeated(certificate, maxCertificates)}),
			"made with a certificate",
		},
		{
			"a chain of nine",
			material("x509CertificateChain", map[string]any{"certificates": repeated(certificate, maxCertificates+1)}),
			"more than 8 certificates",
		},
		{
			"a key and a certificate",
			fields(func(m map[string]any) { get(m, "verificationMaterial")["certificate"] = certificate }),
			"no Sigstore bundle",
		},
		{
			"a truly certified bundle of another image",
			func(_ *testing.T, c *Candidate) { *c = certified },
			"not about this image",
		},
		{"five log entries", fields(func(m map[string]any) {
			get(m, "verificationMaterial")["tlogEntries"] = repeated(map[string]any{}, maxLogEntries+1)
		}), "more than 4 log entries"},
		{"five timestamps", fields(func(m map[string]any) {
			get(m, "verificationMaterial")["timestampVerificationData"] = map[string]any{
				"rfc3161Timestamps": repeated(map[string]any{}, maxTimestamps+1),
			}
		}), "more than 4 timestamps"},
		{"a message signature (cosign sign-blob)", fields(func(m map[string]any) {
			delete(m, "dsseEnvelope")
			sum, _ := digest.FromString("x"), ""
			m["messageSignature"] = map[string]any{
				"messageDigest": map[string]any{
					"algorithm": "SHA2_256",
					"digest":    base64.StdEncoding.EncodeToString([]byte(sum)[:32]),
				},
				"signature": "AAAA",
			}
		}), "signs bytes, not an image"},
		{
			"a message signature beside the envelope",
			fields(func(m map[string]any) { m["messageSignature"] = map[string]any{} }),
			"no Sigstore bundle",
		},
		{
			"envelope twice, spelt differently",
			text(func(s string) string { return s[:len(s)-1] + `,"dsse_envelope":{}}` }),
			"no Sigstore bundle",
		},
		{"envelope twice", text(func(s string) string { return s[:len(s)-1] + `,"dsseEnvelope":{}}` }), strict},
		{"envelope in two cases", text(func(s string) string { return s[:len(s)-1] + `,"dsseenvelope":{}}` }), strict},
		{"media type missing", fields(func(m map[string]any) { delete(m, "mediaType") }), incomplete},
		{
			"media type of a later version",
			fields(func(m map[string]any) { m["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.4+json" }),
			incomplete,
		},
		{"media type of something else", fields(func(m map[string]any) { m["mediaType"] = MediaTypeDSSE }), incomplete},
		{"an unknown field", fields(func(m map[string]any) { m["more"] = 1 }), "no Sigstore bundle"},
		{"bytes after it", text(func(s string) string { return s + "{}" }), strict},
		{"cut off", text(func(s string) string { return s[:len(s)-2] }), strict},
		{"not UTF-8", text(func(s string) string { return strings.Replace(s, "hint", "h\xffnt", 1) }), strict},
		{"empty", text(func(string) string { return "" }), strict},
		{"empty object", text(func(string) string { return "{}" }), ""},
		{"null", text(func(string) string { return "null" }), ""},
		{"a list", text(func(string) string { return "[]" }), "no Sigstore bundle"},
		{"garbage", text(func(string) string { return "\x00\x01\x02" }), strict},
		{"too large", text(func(s string) string { return s + strings.Repeat(" ", MaxPayload) }), "larger than"},
		{"called legacy", func(_ *testing.T, c *Candidate) {
			c.Kind, c.Annotations = Legacy, map[string]string{
				AnnotationSignature: goodSignature.(map[string]any)["sig"].(string),
			}
		}, "payload's type is not"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			denied(t, k, change(good, func(c *Candidate) { tt.alter(t, c) }), image, tt.want)
		})
	}
}

func repeated(v any, n int) []any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// TestIgnoredEvidence: an authority of keys does not look at log entries and
// timestamps, so broken ones do no harm; and the key hint is only a hint.
func TestIgnoredEvidence(t *testing.T) {
	t.Parallel()
	set := fixtures.Load(t)
	k := authority(t, fixtureKey(t, set, "keys/p256.pub"))
	good, image := genuine(t, set, "acme/v3-p256")
	for name, alter := range map[string]func(m map[string]any){
		"four log entries": func(m map[string]any) {
			m["tlogEntries"] = repeated(map[string]any{"logIndex": "7", "canonicalizedBody": "AAAA"}, maxLogEntries)
		},
		"four timestamps": func(m map[string]any) {
			m["timestampVerificationData"] = map[string]any{
				"rfc3161Timestamps": repeated(map[string]any{"signedTimestamp": "AAAA"}, maxTimestamps),
			}
		},
		"another hint": func(m map[string]any) { m["publicKey"] = map[string]any{"hint": "another"} },
		"no hint":      func(m map[string]any) { m["publicKey"] = map[string]any{} },
	} {
		c := change(good, func(c *Candidate) {
			c.Payload = mutateJSON(t, c.Payload, func(m map[string]any) {
				alter(m["verificationMaterial"].(map[string]any))
			})
		})
		t.Run(name, func(t *testing.T) {
			if who := allowed(t, k, c, image); who.KeySource != "keys/p256.pub" {
				t.Errorf("signer %+v", who)
			}
		})
	}
}

func TestForeignStatement(t *testing.T) {
	t.Parallel()
	key, stranger := newECDSA(t, elliptic.P256()), newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image, other := digest.FromString("an image"), digest.FromString("another")
	sum := image.Encoded()
	allowed(t, k, bundleOf(t, key, statementOf(sum)), image)
	is := func(statement string) Candidate { return bundleOf(t, key, statement) }
	const (
		about       = "not about this image"
		attestation = "attestation"
	)
	provenance := statementWith(subject("sha256", sum, ""), slsa, "{}")
	otherType := envelope(t, key, "text/plain", statementOf(sum))
	withoutPAE := base64.StdEncoding.EncodeToString(sign(t, key, []byte(statementOf(sum))))
	for name, tt := range map[string]struct {
		candidate Candidate
		want      string
	}{
		"provenance (GHSA-w6c6-c85g-mmv6)": {
			is(provenance),
			attestation,
		},
		"cosign's own attestation": {
			is(statementWith(subject("sha256", sum, ""), "https://cosign.sigstore.dev/attestation/v1", "{}")),
			attestation,
		},
		"predicate type of a later version": {
			is(statementWith(subject("sha256", sum, ""), signPredicate+"1", "{}")),
			attestation,
		},
		"predicate type in another case": {
			is(statementWith(subject("sha256", sum, ""), "https://sigstore.dev/cosign/Sign/v1", "{}")),
			attestation,
		},
		"predicate type with a slash more": {
			is(statementWith(subject("sha256", sum, ""), signPredicate+"/", "{}")),
			attestation,
		},
		"predicate type empty": {is(statementWith(subject("sha256", sum, ""), "", "{}")), ""},
		"predicate type with a line end": {
			is(statementWith(subject("sha256", sum, ""), `a\n\u001b[31m`, "{}")),
			attestation,
		},
		"predicate type twice": {
			is(strings.Replace(provenance, "{", `{"predicateType":"`+signPredicate+`",`, 1)),
			"",
		},
		"predicate type spelt twice": {
			is(strings.Replace(provenance, "{", `{"predicate_type":"`+signPredicate+`",`, 1)),
			"",
		},
		"predicate type in the predicate": {
			is(statementWith(subject("sha256", sum, ""), slsa, `{"predicateType":"`+signPredicate+`"}`)),
			attestation,
		},
		"another image": {is(statementOf(other.Encoded())), about},
		"no subject":    {is(statementWith("", signPredicate, "{}")), about},
		"a subject without a digest": {
			is(statementWith(`{"name":"`+image.String()+`"}`, signPredicate, "{}")),
			about,
		},
		"digest under another algorithm": {
			is(statementWith(subject("sha512", sum, ""), signPredicate, "{}")),
			about,
		},
		"algorithm in upper case": {
			is(statementWith(subject("SHA256", sum, ""), signPredicate, "{}")),
			about,
		},
		"digest in upper case":      {is(statementOf(strings.ToUpper(sum))), about},
		"digest with its algorithm": {is(statementOf(image.String())), about},
		"digest cut":                {is(statementOf(sum[:62])), about},
		"digest empty":              {is(statementOf("")), about},
		"digest with a line end":    {is(statementOf(sum + `\n`)), about},
		"subject twice": {
			is(strings.Replace(statementOf(other.Encoded()), "{", `{"subject":[`+subject("sha256", sum, "")+`],`, 1)),
			"",
		},
		"subject in two cases": {
			is(strings.Replace(statementOf(sum), "{", `{"Subject":[`+subject("sha256", other.Encoded(), "")+`],`, 1)),
			"",
		},
		"predicate type in two cases": {
			is(strings.Replace(statementOf(sum), "{", `{"PredicateType":"https://slsa.dev/provenance/v1",`, 1)),
			"",
		},
		"an annotation twice": {
			is(statementWith(subject("sha256", sum, `{"env":"prod","env":"dev"}`), signPredicate, "{}")),
			"",
		},
		"a digest twice": {
			is(statementWith(`{"digest":{"sha256":"`+other.Encoded()+`","sha256":"`+sum+`"}}`, signPredicate, "{}")),
			"",
		},
		"two statements":       {is(statementOf(sum) + statementOf(sum)), ""},
		"signed by a stranger": {bundleOf(t, stranger, statementOf(sum)), "another key"},
		"signed by a stranger as well": {
			bundleFrom(envelope(t, []crypto.Signer{key, stranger}, inToto, statementOf(sum)), publicKey),
			"",
		},
		"signed by a stranger first": {
			bundleFrom(envelope(t, []crypto.Signer{stranger, key}, inToto, statementOf(sum)), publicKey),
			"",
		},
		"signed as another payload type": {
			bundleFrom(envelope(t, key, "text/plain", statementOf(sum)), publicKey),
			"no in-toto statement",
		},
		"signed as one type, sold as another": {
			bundleFrom(strings.Replace(otherType, "text/plain", inToto, 1), publicKey),
			"another key, or altered",
		},
		"signed without PAE": {
			bundleFrom(strings.Replace(
				envelope(t, key, inToto, statementOf(sum)),
				`"sig":"`,
				`"sig":"`+withoutPAE+`","keyid":"`,
				1,
			), publicKey),
			"another key, or altered",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			denied(t, k, tt.candidate, image, tt.want)
		})
	}
}

func TestBundleSHA512(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image := digest.SHA512.FromString("an image")
	allowed(t, k, bundleOf(t, key, statementWith(subject("sha512", image.Encoded(), ""), signPredicate, "{}")), image)
	denied(
		t,
		k,
		bundleOf(
			t,
			key,
			statementWith(subject("sha256", digest.FromString("an image").Encoded(), ""), signPredicate, "{}"),
		),
		image,
		"not about this image",
	)
	denied(
		t,
		k,
		bundleOf(t, key, statementWith(subject("sha512", image.Encoded()[:64], ""), signPredicate, "{}")),
		image,
		"not about this image",
	)
}

func TestBundleAnnotations(t *testing.T) {
	t.Parallel()
	key := newECDSA(t, elliptic.P256())
	k := authority(t, policyKey(t, key.Public(), "k"))
	image, other := digest.FromString("an image"), digest.FromString("another")
	for name, tt := range map[string]struct {
		subjects string
		want     map[string]string
	}{
		"none": {subject("sha256", image.Encoded(), ""), map[string]string{}},
		"dots and capitals": {
			subject("sha256", image.Encoded(), `{"Team.Name":"A","team.name":"a","env.prod":"yes"}`),
			map[string]string{"Team.Name": "A", "team.name": "a", "env.prod": "yes"},
		},
		"another subject's": {
			subject("sha256", other.Encoded(), `{"env":"prod"}`) + "," +
				subject("sha256", image.Encoded(), `{"env":"dev"}`),
			map[string]string{"env": "dev"},
		},
		"only another's": {
			subject("sha256", image.Encoded(), "") + "," + subject("sha256", other.Encoded(), `{"env":"prod"}`),
			map[string]string{},
		},
		"others than strings, as in a legacy signature": {
			subject("sha256", image.Encoded(), `{"creator":"x","a":7,"b":null,"c":{},"d":true}`),
			map[string]string{"creator": "x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := bundleOf(t, key, statementWith(tt.subjects, signPredicate, "{}"))
			if got := allowed(t, k, c, image).Annotations; !maps.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestBundleTokens: whoever may push a signature chooses how many values it holds.
func TestBundleTokens(t *testing.T) {
	hashes := strings.TrimSuffix(strings.Repeat(`"AA==",`, maxProofHashes), ",")
	entry := `{"inclusionProof":{"hashes":[` + hashes + `]}}`
	largest := `"tlogEntries":[` + strings.TrimSuffix(strings.Repeat(entry+",", maxLogEntries), ",") + `],` +
		`"x509CertificateChain":{"certificates":[` +
		strings.TrimSuffix(strings.Repeat(`{"rawBytes":"AA=="},`, maxCertificates), ",") + `]}`
	many := `"timestampVerificationData":{"rfc3161Timestamps":[` + strings.Repeat(`{},`, maxBundleTokens/2) + `{}]}`

	for name, test := range map[string]struct {
		material string
		want     error
	}{
		"the largest": {largest, nil},
		"more":        {many, oci.ErrJSON},
	} {
		t.Run(name, func(t *testing.T) {
			c := bundleFrom(`"messageSignature":{"signature":"AA=="}`, test.material)
			if _, err := parseBundle(c.Payload); !errors.Is(err, test.want) {
				t.Errorf("%v; want %v", err, test.want)
			}
		})
	}
}

func TestBundleMediaTypes(t *testing.T) {
	t.Parallel()
	for mediaType, want := range map[string]bool{
		bundleV03: true,
		"application/vnd.dev.sigstore.bundle.v0.2+json":        true,
		"application/vnd.dev.sigstore.bundle+json;version=0.1": true,
		"application/vnd.dev.sigstore.bundle+json":             true,
		"application/vnd.dev.sigstore.bundle":                  false,
		"application/vnd.dev.sigstore.bundles+json":            false,
		"application/vnd.dev.sigstore.bundle.v1+json":          false,
		"Application/vnd.dev.sigstore.bundle.v0.3+json":        false,
		" " + bundleV03: false, "": false, MediaTypeDSSE: false, MediaTypeSimpleSigning: false,
	} {
		if got := IsBundle(mediaType); got != want {
			t.Errorf("%q: %v, want %v", mediaType, got, want)
		}
	}
}
