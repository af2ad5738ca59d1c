package proxy_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
)

// der writes one DER element; contents follow each other.
func der(tag byte, contents ...[]byte) []byte {
	body := bytes.Join(contents, nil)
	length := []byte{byte(len(body))}
	if len(body) > 127 {
		length = nil
		for n := len(body); n > 0; n >>= 8 {
			length = append([]byte{byte(n)}, length...)
		}
		length = append([]byte{0x80 | byte(len(length))}, length...)
	}
	return append(append([]byte{tag}, length...), body...)
}

// hugeCertificate is a well-formed certificate whose RSA key has this many
// bits. A program that verifies with it is busy for seconds.
func hugeCertificate(bits int) []byte {
	modulus := append([]byte{0}, bytes.Repeat([]byte{0xff}, bits/8)...)
	exponent := []byte{0x7f, 0xff, 0xff, 0xff}
	null := der(5)
	rsa := der(0x30, der(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1}), null)
	signs := der(0x30, der(6, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}), null)
	name := der(0x30, der(0x31, der(0x30, der(6, []byte{0x55, 4, 3}), der(0x0c, []byte("x")))))
	validity := der(0x30, der(0x17, []byte("200101000000Z")), der(0x17, []byte("490101000000Z")))
	key := der(0x30, rsa, der(3, append([]byte{0}, der(0x30, der(2, modulus), der(2, exponent))...)))
	toBeSigned := der(0x30, der(0xa0, der(2, []byte{2})), der(2, []byte{1}), signs, name, validity, name, key)
	return der(0x30, toBeSigned, signs, der(3, append([]byte{0}, bytes.Repeat([]byte{1}, bits/8)...)))
}

// base64Of is short for what JSON holds of binary.
func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// times is n times s, as JSON lists it.
func times(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+",", n), ",") }

// keyedBundle is a bundle with an envelope that signs image.
func keyedBundle(image digest.Digest, material, signatures string) hostile.Layer {
	statement := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + image.Encoded() +
		`"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
	return hostile.Layer{
		MediaType: bundleType,
		Body: []byte(`{"mediaType":"` + bundleType + `","verificationMaterial":{` + material +
			`},"dsseEnvelope":{"payload":"` + base64Of([]byte(statement)) +
			`","payloadType":"application/vnd.in-toto+json","signatures":[` + signatures + `]}}`),
	}
}

// uselessMaterial makes signatures with parts that a key authority has no use
// for, around a certificate of half a million bits.
func uselessMaterial(t *testing.T, certificate []byte) map[string]func(image digest.Digest) hostile.Layer {
	text := base64Of(certificate)
	pemText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	body := `{"apiVersion":"0.0.1","kind":"dsse","spec":{"signatures":[{"verifier":"` +
		base64Of([]byte(pemText))[:4000] + `"}]}}`
	entry := `{"logIndex":"1","logId":{"keyId":"eA=="},"kindVersion":{"kind":"dsse","version":"0.0.1"},` +
		`"integratedTime":"1","canonicalizedBody":"` + base64Of([]byte(body)) + `"}`
	stamp := `{"signedTimestamp":"` + text[:4000] + `"}`
	raw := `{"rawBytes":"` + text + `"}`

	signature := func(n int) string { return `{"sig":"` + base64Of(bytes.Repeat([]byte{1}, n)) + `"}` }
	bundle := func(material, signatures string) func(digest.Digest) hostile.Layer {
		return func(image digest.Digest) hostile.Layer { return keyedBundle(image, material, signatures) }
	}
	const (
		short = `{"sig":"eA=="}`
		hint  = `"publicKey":{"hint":"x"}`

		stamped = hint + `,"timestampVerificationData":{"rfc3161Timestamps":[`
	)
	return map[string]func(image digest.Digest) hostile.Layer{
		"certificate":   bundle(`"certificate":`+raw, short),
		"chain":         bundle(`"x509CertificateChain":{"certificates":[`+raw+`,`+raw+`]}`, short),
		"its own key":   bundle(`"publicKey":{"hint":"`+text+`"}`, short),
		"32 entries":    bundle(hint+`,"tlogEntries":[`+times(32, entry)+`]`, short),
		"4 entries":     bundle(hint+`,"tlogEntries":[`+times(4, entry)+`]`, short),
		"32 timestamps": bundle(stamped+times(32, stamp)+`]}`, short),

		"64 KiB of RSA":    bundle(hint, signature(64<<10)),
		"2,000 signatures": bundle(hint, times(2000, signature(70))),

		"legacy, certificate": func(d digest.Digest) hostile.Layer {
			l := hostile.SignatureLayer(hostile.Payload("prod/app", d), newKey(t))
			l.Annotations["dev.sigstore.cosign/certificate"] = pemText
			l.Annotations["dev.sigstore.cosign/chain"] = pemText
			return l
		},
		"legacy, 64 KiB of RSA": func(d digest.Digest) hostile.Layer {
			return hostile.Layer{
				MediaType: hostile.SimpleSigningType,
				Body:      hostile.Payload("prod/app", d),
				Annotations: map[string]string{
					"dev.cosignproject.cosign/signature": base64Of(bytes.Repeat([]byte{1}, 64<<10)),
				},
			}
		},
	}
}

// Section 6: before any crypto. What a key authority does not use costs it
// nothing: certificates of half a million bits, heaps of log entries and
// timestamps, signatures longer than any key makes.
func TestUselessMaterial(t *testing.T) {
	certificate := hugeCertificate(500_000)
	if c, err := x509.ParseCertificate(certificate); err != nil || c.PublicKey.(*rsa.PublicKey).N.BitLen() != 500_000 {
		t.Fatal("the certificate is not the bomb it should be: ", err)
	}
	r, _, end := siege(t, patient)
	defer end()

	for name, layer := range uselessMaterial(t, certificate) {
		t.Run(name, func(t *testing.T) {
			unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			for _, image := range []hostile.Image{unsigned, signed} {
				for range 20 {
					r.reg.PushArtifact("prod/app", "", hostile.Artifact{
						Type:       bundleType,
						ConfigType: hostile.SignatureType,
						Layers:     []hostile.Layer{layer(image.Digest)},
						Subject:    image.Digest,
					})
				}
			}
			r.reg.Sign("prod/app", signed.Digest, r.key)

			start := time.Now()
			g := quiet{patience, 96 << 20}.get(t, r, manifests("prod/app", unsigned.Digest))
			g.refused(t, http.StatusForbidden, "DENIED")
			if took := time.Since(start); took > pace(3*time.Second) {
				t.Errorf("20 of them took %s", took)
			}
			r.get(manifests("prod/app", signed.Digest)).served(t, signed.Manifest)
		})
	}
}
