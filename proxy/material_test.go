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
// bits. Whoever verifies with it is busy for seconds.
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

// Section 6: before any crypto. What a key authority does not use costs it
// nothing: certificates of half a million bits, heaps of log entries and
// timestamps, signatures longer than any key makes.
func TestUselessMaterial(t *testing.T) {
	certificate := hugeCertificate(500_000)
	if c, err := x509.ParseCertificate(certificate); err != nil || c.PublicKey.(*rsa.PublicKey).N.BitLen() != 500_000 {
		t.Fatal("the certificate is not the bomb it should be: ", err)
	}
	text := base64.StdEncoding.EncodeToString(certificate)
	pemText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	entry := `{"logIndex":"1","logId":{"keyId":"eA=="},"kindVersion":{"kind":"dsse","version":"0.0.1"},` +
		`"integratedTime":"1","canonicalizedBody":"` +
		base64.StdEncoding.EncodeToString(
			[]byte(
				`{"apiVersion":"0.0.1","kind":"dsse","spec":{"signatures":[{"verifier":"`+base64.StdEncoding.EncodeToString([]byte(pemText))[:4000]+`"}]}}`,
			),
		) + `"}`
	stamp := `{"signedTimestamp":"` + text[:4000] + `"}`
	r, _, end := siege(t, patient)
	defer end()
	statement := func(image digest.Digest) string {
		return base64.StdEncoding.EncodeToString(
			[]byte(
				`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` +
					image.Encoded() + `"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`,
			),
		)
	}
	bundle := func(image digest.Digest, material, sig string) hostile.Layer {
		return hostile.Layer{
			MediaType: bundleType,
			Body: []byte(`{"mediaType":"` + bundleType + `","verificationMaterial":{` + material +
				`},"dsseEnvelope":{"payload":"` +
				statement(image) + `","payloadType":"application/vnd.in-toto+json","signatures":[` + sig + `]}}`),
		}
	}
	short := `{"sig":"eA=="}`
	long := `{"sig":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 64<<10)) + `"}`
	hint := `"publicKey":{"hint":"x"}`
	for name, make := range map[string]func(image digest.Digest) hostile.Layer{
		"certificate": func(d digest.Digest) hostile.Layer { return bundle(d, `"certificate":{"rawBytes":"`+text+`"}`, short) },
		"chain": func(d digest.Digest) hostile.Layer {
			return bundle(d, `"x509CertificateChain":{"certificates":[{"rawBytes":"`+text+`"},{"rawBytes":"`+text+`"}]}`, short)
		},
		"its own key": func(d digest.Digest) hostile.Layer { return bundle(d, `"publicKey":{"hint":"`+text+`"}`, short) },
		"32 entries": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint+`,"tlogEntries":[`+strings.TrimSuffix(strings.Repeat(entry+",", 32), ",")+`]`, short)
		},
		"4 entries": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint+`,"tlogEntries":[`+strings.TrimSuffix(strings.Repeat(entry+",", 4), ",")+`]`, short)
		},
		"32 timestamps": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint+`,"timestampVerificationData":{"rfc3161Timestamps":[`+strings.TrimSuffix(strings.Repeat(stamp+",", 32), ",")+`]}`, short)
		},
		"64 KiB of RSA": func(d digest.Digest) hostile.Layer { return bundle(d, hint, long) },
		"2,000 signatures": func(d digest.Digest) hostile.Layer {
			return bundle(d, hint, strings.TrimSuffix(strings.Repeat(`{"sig":"`+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 70))+`"},`, 2000), ","))
		},
		"legacy, certificate": func(d digest.Digest) hostile.Layer {
			l := hostile.SignatureLayer(hostile.Payload("prod/app", d), newKey(t))
			l.Annotations["dev.sigstore.cosign/certificate"], l.Annotations["dev.sigstore.cosign/chain"] = pemText, pemText
			return l
		},
		"legacy, 64 KiB of RSA": func(d digest.Digest) hostile.Layer {
			return hostile.Layer{
				MediaType: hostile.SimpleSigningType,
				Body:      hostile.Payload("prod/app", d),
				Annotations: map[string]string{
					"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 64<<10)),
				},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			unsigned, signed := r.reg.PushImage("prod/app", ""), r.reg.PushImage("prod/app", "")
			for _, image := range []hostile.Image{unsigned, signed} {
				for range 20 {
					r.reg.PushArtifact("prod/app", "", hostile.Artifact{
						Type:       bundleType,
						ConfigType: hostile.SignatureType,
						Layers:     []hostile.Layer{make(image.Digest)},
						Subject:    image.Digest,
					})
				}
			}
			r.reg.Sign("prod/app", signed.Digest, r.key)
			start := time.Now()
			g := quiet{
				patience,
				96 << 20,
			}.within(t, func() got { return r.get(manifests("prod/app", unsigned.Digest)) })
			g.refused(t, http.StatusForbidden, "DENIED")
			if took := time.Since(start); took > pace(3*time.Second) {
				t.Errorf("20 of them took %s", took)
			}
			r.get(manifests("prod/app", signed.Digest)).served(t, signed.Manifest)
		})
	}
}
