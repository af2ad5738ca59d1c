package sigs

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/digitorus/pkcs7"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"github.com/pullgate/pullgate/policy"
)

// oversized is an RSA key that would take seconds to verify with. It has
// no private half.
func oversized() *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 65536)
	return &rsa.PublicKey{N: n.Sub(n, big.NewInt(159)), E: 65537}
}

// token is an RFC 3161 response, as far as it is read before it is verified, signed
// this often and with these certificates in it.
func token(t testing.TB, signers int, by *issuer, key crypto.Signer, certificates ...*x509.Certificate) []byte {
	t.Helper()
	content, err := pkcs7.NewSignedData([]byte("no timestamp"))
	if err != nil {
		t.Fatal(err)
	}
	content.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	leaf := by.leaf(t, key.Public(), func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "a timestamper"} })
	for range signers {
		if err := content.AddSigner(leaf, key, pkcs7.SignerInfoConfig{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range certificates {
		content.AddCertificate(c)
	}
	der, err := content.Finish()
	if err != nil {
		t.Fatal(err)
	}
	response, err := asn1.Marshal(struct {
		Status struct{ Code int }
		Token  asn1.RawValue
	}{Token: asn1.RawValue{FullBytes: der}})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// TestEvidenceBounds: evidence is bounded before it is computed with, because a
// client that may push chooses it (CVE-2024-45395 and the like). Clocks decide
// nothing here: each case is refused for its count or its size.
func TestEvidenceBounds(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t, func(p *policy.Authority) { p.Timestamp = true })
	good := k.signed(t)
	key := newECDSA(t, elliptic.P256())
	big := k.fulcio.leaf(t, oversized(), email(somebody), by(someIssuer))
	bigAuthority := func() *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber:          serial(t),
			Subject:               pkix.Name{CommonName: "big"},
			IsCA:                  true,
			BasicConstraintsValid: true,
			NotAfter:              big.NotAfter,
		}
		return certificateBy(t, c, k.fulcio, nil, oversized())
	}()
	bigDER := must(x509.MarshalPKIXPublicKey(oversized()))
	bigPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: bigDER})
	bigPKCS1 := x509.MarshalPKCS1PublicKey(oversized())
	stamped := func(token []byte) signing {
		return altered(good, func(s *signing) { s.stamp = func([]byte) []byte { return token } })
	}
	const rsa = "brings an RSA key of 65536 bits"
	for name, test := range map[string]struct {
		s    signing
		want string
	}{
		"RSA leaf": {altered(good, func(s *signing) { s.leaf = big }), rsa},
		"RSA in the chain": {
			altered(good, func(s *signing) { s.chain = []*x509.Certificate{bigAuthority} }),
			rsa,
		},
		"RSA in a token":        {stamped(token(t, 1, k.fulcio, key, bigAuthority)), rsa},
		"token of many signers": {stamped(token(t, 5, k.fulcio, key)), "exactly one signer"},
		"token of no signer":    {stamped(token(t, 0, k.fulcio, key)), "exactly one signer"},
		"token of many certificates": {
			stamped(token(t, 1, k.fulcio, key, authorities(t, k.fulcio, 9)...)),
			"more than 8 certificates",
		},
		"token of one name twice": {
			stamped(token(t, 1, k.fulcio, key, authorities(t, k.fulcio, 1)[0], authorities(t, k.fulcio, 1)[0])),
			"two certificates of one name",
		},
		"token too large":  {stamped(make([]byte, maxTimestamp+1)), "timestamp is larger"},
		"token of nothing": {stamped(nil), "timestamp cannot be read"},
		"chain of many":    {altered(good, func(s *signing) { s.chain = authorities(t, k.fulcio, 8) }), ""},
		"leaf too large": {altered(good, func(s *signing) {
			s.leaf = k.fulcio.leaf(t, key.Public(), email(strings.Repeat("x", maxCertificate)+"@acme.example"))
		}), "larger than 16 KiB"},
		"log entry too large": {
			altered(good, func(s *signing) {
				s.body = func(b map[string]any) { b["x"] = repeated(strings.Repeat("x", 1000), 70) }
			}),
			"log entry is larger",
		},
		"log entry of one large text": {
			altered(good, func(s *signing) {
				s.body = func(b map[string]any) { b["x"] = strings.Repeat("x", maxLogField+1) }
			}),
			"larger than any key",
		},
		"log entry of depth": {
			altered(good, func(s *signing) { s.body = func(b map[string]any) { b["x"] = deep(maxDepth) } }),
			"log entry",
		},
		"log entry that is proposed": {
			altered(good, func(s *signing) {
				s.body = func(b map[string]any) { b["Spec"] = map[string]any{"PROPOSEDCONTENT": "eA=="} }
			}),
			"only proposed",
		},
		"log entry with another large text": {
			altered(good, func(s *signing) {
				s.body = func(b map[string]any) { b["payload"] = []any{strings.Repeat("x", maxLogField+1)} }
			}),
			"larger than any key",
		},
	} {
		for format, c := range test.s.formats(t, k.image) {
			t.Run(name+"/"+format, func(t *testing.T) { denied(t, a, c, k.image, test.want) })
		}
	}
	statement := statementOf(k.image.Encoded())
	signature := sign(t, good.key, pae(inToto, statement))
	for name, body := range map[string]map[string]any{
		"hashedrekord": {
			"kind":       "hashedrekord",
			"apiVersion": "0.0.1",
			"spec":       map[string]any{"signature": map[string]any{"publicKey": map[string]any{"content": bigPEM}}},
		},
		"dsse": {
			"kind":       "dsse",
			"apiVersion": "0.0.1",
			"spec":       map[string]any{"signatures": []any{map[string]any{"verifier": bigPEM}}},
		},
		"intoto": {
			"kind":       "intoto",
			"apiVersion": "0.0.2",
			"spec": map[string]any{"content": map[string]any{"envelope": map[string]any{
				"signatures": []any{map[string]any{"publicKey": bigPEM}},
			}}},
		},
		"intoto twice": {
			"kind":       "intoto",
			"apiVersion": "0.0.2",
			"spec":       []byte(base64.StdEncoding.EncodeToString(bigPEM)),
		},
		"rekor v2": {
			"kind":       "hashedrekord",
			"apiVersion": "0.0.2",
			"spec": map[string]any{"hashedRekordV002": map[string]any{"signature": map[string]any{
				"verifier": map[string]any{"publicKey": map[string]any{"rawBytes": bigDER}},
			}}},
		},
		"PKCS #1": {
			"kind":       "dsse",
			"apiVersion": "0.0.1",
			"spec":       pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: bigPKCS1}),
		},
		"certificate": {"kind": "dsse", "apiVersion": "0.0.1", "spec": pemOf(big)},
	} {
		t.Run("RSA in an entry of "+name, func(t *testing.T) {
			s := altered(good, func(s *signing) { s.body = func(b map[string]any) { clear(b); copyInto(b, body) } })
			denied(t, a, s.bundle(t, statement), k.image, rsa)
		})
	}
	// A second key, whose chain or signatures would be verified with the first's.
	chained := append(good.verifier(t), pemOf(k.fulcio.cert)...)
	for name, edit := range map[string]func(map[string]any){
		"two PEM blocks": func(b map[string]any) {
			b["spec"].(map[string]any)["signatures"] = []any{map[string]any{
				"signature": base64.StdEncoding.EncodeToString(signature),
				"verifier":  chained,
			}}
		},
		"two signatures": func(b map[string]any) {
			one := b["spec"].(map[string]any)["signatures"].([]any)[0]
			b["spec"].(map[string]any)["signatures"] = []any{one, one}
		},
	} {
		t.Run(name+" in an entry", func(t *testing.T) {
			denied(
				t,
				a,
				altered(good, func(s *signing) { s.body = edit }).bundle(t, statement),
				k.image,
				"names several keys",
			)
		})
	}
	t.Run("proposed to a log only", func(t *testing.T) {
		// Every one of these keys would be tried on every one of the signatures.
		s := altered(good, func(s *signing) {
			s.body = func(b map[string]any) {
				b["spec"] = map[string]any{"proposedContent": map[string]any{
					"envelope":  `{"payload":"","payloadType":"x","signatures":[]}`,
					"verifiers": []any{s.verifier(t)},
				}}
			}
		})
		denied(t, a, s.bundle(t, statement), k.image, "only proposed")
	})
	for name, edit := range map[string]func(*protobundle.VerificationMaterial){
		"32 log entries": func(m *protobundle.VerificationMaterial) {
			m.TlogEntries = repeatedOf(m.TlogEntries[0], 32)
		},
		"5 log entries": func(m *protobundle.VerificationMaterial) { m.TlogEntries = repeatedOf(m.TlogEntries[0], 5) },
		"32 timestamps": func(m *protobundle.VerificationMaterial) {
			d := m.TimestampVerificationData
			d.Rfc3161Timestamps = repeatedOf(d.Rfc3161Timestamps[0], 32)
		},
		"9 certificates": func(m *protobundle.VerificationMaterial) {
			c := m.GetX509CertificateChain()
			c.Certificates = repeatedOf(c.Certificates[0], 9)
		},
		"65 hashes": func(m *protobundle.VerificationMaterial) {
			m.TlogEntries[0].InclusionProof = &protorekor.InclusionProof{Hashes: repeatedOf([]byte("x"), 65)}
		},
		"a large checkpoint": func(m *protobundle.VerificationMaterial) {
			checkpoint := &protorekor.Checkpoint{Envelope: strings.Repeat("x", maxCheckpoint+1)}
			m.TlogEntries[0].InclusionProof = &protorekor.InclusionProof{Checkpoint: checkpoint}
		},
		"null entries": func(m *protobundle.VerificationMaterial) {
			m.TlogEntries = []*protorekor.TransparencyLogEntry{{}}
		},
		"null stamps": func(m *protobundle.VerificationMaterial) {
			m.TimestampVerificationData.Rfc3161Timestamps = []*protocommon.RFC3161SignedTimestamp{{}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			denied(
				t,
				a,
				good.bundle(t, statement, func(b *protobundle.Bundle) { edit(b.VerificationMaterial) }),
				k.image,
				"",
			)
		})
	}
}

// TestChainPath: of certificates that all lead to each other, one of each
// name is tried, and a circle ends.
func TestChainPath(t *testing.T) {
	t.Parallel()
	top := newIssuer(t, "top", nil)
	a := newIssuer(t, "a", top)
	b := newIssuer(t, "b", a)
	leaf := b.leaf(t, newECDSA(t, elliptic.P256()).Public())
	certified := func(name string, by *issuer) *x509.Certificate { return newIssuer(t, name, by).cert }
	var many []*x509.Certificate
	for range 3 {
		many = append(many, certified("a", b), certified("b", a), certified("a", top), certified("unrelated", top))
	}
	for name, test := range map[string]struct {
		chain []*x509.Certificate
		want  string
	}{
		"in order":           {[]*x509.Certificate{b.cert, a.cert, top.cert}, "b a"},
		"in another":         {[]*x509.Certificate{top.cert, a.cert, b.cert}, "b a"},
		"with a gap":         {[]*x509.Certificate{a.cert}, ""},
		"none":               {nil, ""},
		"in a circle":        {[]*x509.Certificate{certified("a", b), b.cert}, "b a"},
		"each several times": {append([]*x509.Certificate{b.cert, a.cert}, many...), "b a"},
	} {
		t.Run(name, func(t *testing.T) {
			var names []string
			for _, c := range upwards(leaf, test.chain) {
				names = append(names, c.Subject.CommonName)
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	k := newKeyless(t)
	s := altered(k.signed(t), func(s *signing) {
		s.chain = []*x509.Certificate{k.fulcio.cert, k.fulcio.cert, k.fulcio.cert, k.fulcio.parent.cert}
	})
	r, err := Read(s.legacy(t, payload(k.image.String())), k.image)
	if err != nil {
		t.Fatal(err)
	}
	e := r.content.(*entity)
	if err := e.prove(); err != nil || len(e.chain) != 1 {
		t.Errorf("%d certificates to build paths from, %v", len(e.chain), err)
	}
}

// TestRepeatedEvidence: CVE-2026-49834. Four genuine entries and stamps are at the
// bound, and the same one twice is refused or adds nothing.
func TestRepeatedEvidence(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t, func(p *policy.Authority) { p.Timestamp = true })
	statement := statementOf(k.image.Encoded())
	good := k.signed(t)
	allowed(t, a, good.bundle(t, statement, func(b *protobundle.Bundle) {
		d := b.VerificationMaterial.TimestampVerificationData
		d.Rfc3161Timestamps = repeatedOf(d.Rfc3161Timestamps[0], 4)
	}), k.image)
	denied(t, a, good.bundle(t, statement, func(b *protobundle.Bundle) {
		b.VerificationMaterial.TlogEntries = repeatedOf(b.VerificationMaterial.TlogEntries[0], 2)
	}), k.image, "no transparency log entry")
}

// TestLogEntryKinds: what cosign and others have written over time.
func TestLogEntryKinds(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t)
	statement := statementOf(k.image.Encoded())
	s := k.signed(t)
	allowed(t, a, s.bundle(t, statement), k.image) // dsse 0.0.1
	var signature []byte
	intoto := s.bundle(t, statement, func(b *protobundle.Bundle) {
		signature = b.GetDsseEnvelope().GetSignatures()[0].GetSig()
		payload, promise := s.log(t, s.intotoBody(t, statement, signature))
		b.VerificationMaterial.TlogEntries = []*protorekor.TransparencyLogEntry{entryOf(t, payload, promise)}
	})
	allowed(t, a, intoto, k.image)
	for name, edit := range map[string]func(*protorekor.TransparencyLogEntry){
		"kind":    func(e *protorekor.TransparencyLogEntry) { e.KindVersion.Kind = "hashedrekord" },
		"version": func(e *protorekor.TransparencyLogEntry) { e.KindVersion.Version = "0.0.1" },
	} {
		t.Run("another "+name+" beside the body", func(t *testing.T) {
			b := &protobundle.Bundle{}
			unmarshal(t, intoto.Payload, b)
			edit(b.VerificationMaterial.TlogEntries[0])
			if who, err := check(a, bundled(t, b), k.image); err == nil && who.Subject != somebody {
				t.Errorf("%+v", who)
			}
		})
	}
}

// TestLogEntryPayload: a log of its own may keep the signed statement in its
// entry. It counts where it is the very one, within the bound of an entry.
func TestLogEntryPayload(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t)
	s := k.signed(t)
	statement := statementOf(k.image.Encoded())
	large := strings.Replace(statement, `"predicate":{}`, `"predicate":{"x":"`+strings.Repeat("x", 25_000)+`"}`, 1)
	larger := strings.Replace(statement, `"predicate":{}`, `"predicate":{"x":"`+strings.Repeat("x", 40_000)+`"}`, 1)
	envelope := func(body map[string]any) map[string]any {
		return body["spec"].(map[string]any)["content"].(map[string]any)["envelope"].(map[string]any)
	}

	for name, test := range map[string]struct {
		statement, logged string
		edit              func(envelope map[string]any)
		want              string // empty: allowed
	}{
		"the statement":                         {statement, statement, nil, ""},
		"a large statement":                     {large, large, nil, ""},
		"a statement larger than a log's entry": {larger, larger, nil, "log entry is larger"},
		"another statement":                     {statement, statement + " ", nil, "no transparency log entry"},
		"signatures by several keys": {statement, statement, func(envelope map[string]any) {
			one := envelope["signatures"].([]any)[0]
			envelope["signatures"] = []any{one, one}
		}, "names several keys"},
		"a large key": {statement, statement, func(envelope map[string]any) {
			der := must(x509.MarshalPKIXPublicKey(oversized()))
			text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
			envelope["signatures"].([]any)[0].(map[string]any)["publicKey"] = text
		}, "brings an RSA key"},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.bundle(t, test.statement, func(b *protobundle.Bundle) {
				body := s.intotoBody(t, test.logged, b.GetDsseEnvelope().GetSignatures()[0].GetSig())
				envelope(body)["payload"] = []byte(base64.StdEncoding.EncodeToString([]byte(test.logged)))
				if test.edit != nil {
					test.edit(envelope(body))
				}
				payload, promise := s.log(t, body)
				b.VerificationMaterial.TlogEntries = []*protorekor.TransparencyLogEntry{entryOf(t, payload, promise)}
			})
			if test.want != "" {
				denied(t, a, c, k.image, test.want)
				return
			}
			allowed(t, a, c, k.image)
		})
	}
}

// authorities are n that i certified, each of another name.
func authorities(t testing.TB, i *issuer, n int) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for at := range n {
		list = append(list, newIssuer(t, fmt.Sprint("authority ", at), i).cert)
	}
	return list
}

func repeatedOf[T any](one T, n int) []T {
	var list []T
	for range n {
		list = append(list, one)
	}
	return list
}

func deep(n int) any {
	if n == 0 {
		return nil
	}
	return []any{deep(n - 1)}
}

// copyInto copies by way of JSON, as a log would see it.
func copyInto(to, from map[string]any) {
	b, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(b, &to)
	}
	if err != nil {
		panic(err)
	}
}

// BenchmarkHostileEvidence is what one candidate can cost at most that passes
// every bound and counts for nothing: every key P-521, which is the slowest to
// verify with. Per candidate; a place may hold limits.signatures of them.
func BenchmarkHostileEvidence(b *testing.B) {
	k, other := newKeyless(b), newKeyless(b)
	key := newECDSA(b, elliptic.P521())
	s := signing{
		stack: other.stack,
		key:   key,
		leaf:  other.fulcio.leaf(b, key.Public(), email(somebody), by(someIssuer)),
		chain: []*x509.Certificate{other.fulcio.cert},
	}
	stamp := token(b, 1, other.fulcio, key, authorities(b, other.fulcio, 6)...)
	candidate := s.bundle(b, statementOf(k.image.Encoded()), func(pb *protobundle.Bundle) {
		m := pb.VerificationMaterial
		m.TlogEntries = nil
		signature := sign(b, key, []byte("x"))
		for i := range maxLogEntries {
			s.entry = nil
			payload, promise := s.log(b, map[string]any{
				"apiVersion": "0.0.1",
				"kind":       "hashedrekord",
				"spec": map[string]any{
					"data": map[string]any{"hash": hashOf([]byte("x"))},
					"signature": map[string]any{
						"content":   signature,
						"publicKey": map[string]any{"content": s.verifier(b)},
					},
				},
			})
			entry := entryOf(b, payload, promise)
			entry.LogIndex = int64(i)
			m.TlogEntries = append(m.TlogEntries, entry)
		}
		m.TimestampVerificationData.Rfc3161Timestamps = repeatedOf(
			&protocommon.RFC3161SignedTimestamp{SignedTimestamp: stamp},
			maxTimestamps,
		)
	})
	for name, a := range map[string]*Authority{
		"root with a log": k.trust(b),
		"root with timestamps only": trusting(b, []*Root{rootOf("local", k.stack, k.fulcio, func(m *material) {
			m.noLog = true
		})}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := check(a, candidate, k.image); err == nil {
					b.Fatal("it counts")
				}
			}
		})
	}
}
