package sigs

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pullgate/pullgate/policy"
)

const slsa = "https://slsa.dev/provenance/v1"

// keyless is a Sigstore whose certificates the tests issue themselves.
type keyless struct {
	stack
	fulcio *issuer
	image  digest.Digest
}

func newKeyless(t testing.TB) keyless {
	t.Helper()
	return keyless{
		newStack(t),
		newIssuer(t, "intermediate", newIssuer(t, "a root", nil)),
		digest.FromString("an image"),
	}
}

// trust is an authority of somebody by someIssuer, unless changed.
func (k keyless) trust(t testing.TB, change ...func(*policy.Authority)) *Authority {
	t.Helper()
	return trusting(t, []*Root{rootOf("local", k.stack, k.fulcio)}, change...)
}

func trusting(t testing.TB, roots []*Root, change ...func(*policy.Authority)) *Authority {
	t.Helper()
	p := policy.Authority{
		Name: "ci", Accept: []string{policy.SignaturePredicate},
		Identities: []policy.Identity{{Issuer: policy.Exactly(someIssuer), Subject: policy.Exactly(somebody)}},
	}
	trust := Trust{Roots: map[string]*Root{}}
	for _, r := range roots {
		p.TrustRoots = append(p.TrustRoots, r.name)
		trust.Roots[r.name] = r
	}
	for _, f := range change {
		f(&p)
	}
	a, err := NewAuthority(p, nil, trust)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// signed is a signature by a new key that fulcio certified for somebody, unless
// change says otherwise.
func (k keyless) signed(t testing.TB, change ...template) signing {
	t.Helper()
	key := newECDSA(t, elliptic.P256())
	if change == nil {
		change = []template{email(somebody), by(someIssuer)}
	}
	return signing{stack: k.stack, key: key, leaf: k.fulcio.leaf(t, key.Public(), change...)}
}

// altered is s with one thing changed.
func altered(s signing, f func(*signing)) signing {
	f(&s)
	return s
}

func TestKeylessTraps(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	trusted := k.trust(t)
	good := k.signed(t)
	for name, c := range good.formats(t, k.image) {
		t.Run("good/"+name, func(t *testing.T) { allowed(t, trusted, c, k.image) })
		t.Run("other digest/"+name, func(t *testing.T) { denied(t, trusted, c, digest.FromString("another"), "image") })
	}
	other := newKeyless(t)
	stranger := newECDSA(t, elliptic.P256())
	const (
		log      = "no transparency log entry proves it"
		noTime   = "no trusted timestamp proves when"
		chain    = "was not issued by the trusted authority"
		identity = "names another identity"
	)
	before, after := valid(-30*time.Minute, -20*time.Minute), valid(20*time.Minute, 30*time.Minute)
	for name, c := range map[string]struct {
		s    signing
		want string
	}{
		"no log entry (Rekor)": {altered(good, func(s *signing) { s.unlogged = true }), log},
		"no time at all": {
			altered(good, func(s *signing) { s.unlogged, s.unstamped = true, true }),
			log,
		},
		"log entry of a foreign log": {altered(good, func(s *signing) { s.stack = other.stack }), log},
		"certificate of another key": {altered(good, func(s *signing) { s.key = stranger }), ""},
		"untrusted root":             {other.signed(t), log},
		"certificate expired, the log's time says so": {
			altered(k.signed(t, email(somebody), by(someIssuer), before), func(s *signing) {}),
			"outside certificate validity",
		},
		"certificate not valid yet": {
			altered(k.signed(t, email(somebody), by(someIssuer), after), func(s *signing) {}),
			"outside certificate validity",
		},
		"a stamp after the end, though the log's is before": {
			altered(k.signed(t, email(somebody), by(someIssuer), before), func(s *signing) {
				s.logAt = time.Now().Add(-25 * time.Minute)
			}),
			chain,
		},
		"integratedTime edited (GHSA-whqx-f9j3-ch6m)": {
			altered(good, func(s *signing) { s.after = func(p *tlog.RekorPayload) { p.IntegratedTime++ } }),
			log,
		},
		"logIndex edited": {
			altered(good, func(s *signing) { s.after = func(p *tlog.RekorPayload) { p.LogIndex++ } }),
			log,
		},
		"logID edited": {altered(good, func(s *signing) {
			s.after = func(p *tlog.RekorPayload) { p.LogID = strings.Repeat("ab", 32) }
		}), log},
		"negative logIndex": {
			altered(good, func(s *signing) { s.entry = func(p *tlog.RekorPayload) { p.LogIndex = -1 } }),
			log,
		},
		"unknown kind of entry": {
			altered(good, func(s *signing) { s.body = func(b map[string]any) { b["kind"] = "rekord" } }),
			log,
		},
		"unknown version": {
			altered(good, func(s *signing) { s.body = func(b map[string]any) { b["apiVersion"] = "0.0.9" } }),
			log,
		},
		"entry without spec": {
			altered(good, func(s *signing) { s.body = func(b map[string]any) { delete(b, "spec") } }),
			log,
		},
		"another identity":     {k.signed(t, email("eve@acme.example"), by(someIssuer)), identity},
		"identity with more":   {k.signed(t, email(somebody+".evil.example"), by(someIssuer)), identity},
		"identity in capitals": {k.signed(t, email(strings.ToUpper(somebody)), by(someIssuer)), identity},
		"another issuer":       {k.signed(t, email(somebody), by("https://evil.example")), "issuer is not"},
		"issuer with more":     {k.signed(t, email(somebody), by(someIssuer+"/evil")), "issuer is not"},
		"no issuer":            {k.signed(t, email(somebody)), "issuer is not"},
		"no name":              {k.signed(t, by(someIssuer)), "names no identity"},
		"several names": {
			k.signed(t, email(somebody), email("eve@acme.example"), by(someIssuer)),
			"several subject alternative names",
		},
		"several kinds of name": {
			k.signed(t, email(somebody), uri("https://evil.example/x"), by(someIssuer)),
			"several subject alternative names",
		},
		"name only as a host": {
			k.signed(t, func(c *x509.Certificate) { c.DNSNames = []string{somebody} }, by(someIssuer)),
			"names no identity",
		},
		"name only in the subject": {k.signed(t, func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: somebody}
		}, by(someIssuer)), "names no identity"},
		"no codeSigning": {
			k.signed(t, email(somebody), by(someIssuer), func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
			"codeSigning",
		},
		"for servers only": {
			k.signed(t, email(somebody), by(someIssuer), func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}),
			"codeSigning",
		},
		"an authority signs": {
			k.signed(t, email(somebody), by(someIssuer), func(c *x509.Certificate) {
				c.IsCA, c.BasicConstraintsValid = true, true
			}),
			"authority's",
		},
	} {
		for format, candidate := range c.s.formats(t, k.image) {
			t.Run(name+"/"+format, func(t *testing.T) { denied(t, trusted, candidate, k.image, c.want) })
		}
	}
	t.Run("a foreign timestamp does not hurt what a log proves", func(t *testing.T) {
		s := altered(good, func(s *signing) {
			s.stamp = func(signature []byte) []byte { return must(other.TimestampResponse(signature)) }
		})
		for _, c := range s.formats(t, k.image) {
			allowed(t, trusted, c, k.image)
			denied(t, k.trust(t, func(p *policy.Authority) { p.Timestamp = true }), c, k.image, noTime)
		}
	})
	t.Run("a timestamp of something else (policy: require)", func(t *testing.T) {
		s := altered(good, func(s *signing) {
			s.stamp = func([]byte) []byte { return must(k.TimestampResponse([]byte("something else"))) }
		})
		for _, c := range s.formats(t, k.image) {
			denied(t, k.trust(t, func(p *policy.Authority) { p.Timestamp = true }), c, k.image, noTime)
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestForeignRekorBundle: CVE-2022-23649 and CVE-2026-22703, a log entry that is
// genuine and about another signature.
func TestForeignRekorBundle(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	trusted := k.trust(t)
	good, elsewhere := k.signed(t), k.signed(t)
	mine, theirs := good.legacy(t, payload(k.image.String())), elsewhere.legacy(t, payload(k.image.String()))
	again := good.legacy(t, payloadWith(k.image.String(), `{"a":"b"}`))
	for name, from := range map[string]Candidate{
		"another signer's":                  theirs,
		"the same signer's other signature": again,
	} {
		c := change(
			mine,
			func(c *Candidate) { c.Annotations[annotationLogEntry] = from.Annotations[annotationLogEntry] },
		)
		t.Run(
			"legacy/"+name,
			func(t *testing.T) { denied(t, trusted, c, k.image, "no transparency log entry proves it") },
		)
	}
	stale := altered(good, func(s *signing) { s.unstamped = true })
	for _, field := range []string{"hash", "content", "publicKey"} {
		t.Run("body with another "+field+", signed by the log", func(t *testing.T) {
			s := altered(stale, func(s *signing) {
				s.body = func(b map[string]any) {
					spec := b["spec"].(map[string]any)
					switch field {
					case "hash":
						spec["data"] = map[string]any{"hash": hashOf([]byte("something else"))}
					case "content":
						spec["signature"].(map[string]any)["content"] = sign(t, good.key, []byte("something else"))
					case "publicKey":
						spec["signature"].(map[string]any)["publicKey"] = map[string]any{
							"content": elsewhere.verifier(t),
						}
					}
				}
			})
			denied(t, trusted, s.legacy(t, payload(k.image.String())), k.image, "no transparency log entry proves it")
		})
	}
	entry := func(s signing, statement string) func(*protobundle.Bundle) {
		var from protobundle.Bundle
		unmarshal(t, s.bundle(t, statement).Payload, &from)
		return func(b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = from.VerificationMaterial.TlogEntries
		}
	}
	for name, swap := range map[string]func(*protobundle.Bundle){
		"another signer's":                       entry(elsewhere, statementOf(k.image.Encoded())),
		"the same signer's other signature":      entry(good, statementOf(k.image.Encoded())),
		"the same signer's of another statement": entry(good, statementOf(digest.FromString("x").Encoded())),
	} {
		t.Run("bundle/"+name, func(t *testing.T) {
			denied(
				t,
				trusted,
				good.bundle(t, statementOf(k.image.Encoded()), swap),
				k.image,
				"no transparency log entry proves it",
			)
		})
	}
	t.Run("bundle/entry of another kind", func(t *testing.T) {
		body := func(b map[string]any) {
			clear(b)
			signature := sign(t, good.key, []byte("x"))
			maps.Copy(b, map[string]any{
				"apiVersion": "0.0.1",
				"kind":       "hashedrekord",
				"spec": map[string]any{
					"data": map[string]any{"hash": hashOf([]byte("x"))},
					"signature": map[string]any{
						"content":   signature,
						"publicKey": map[string]any{"content": good.verifier(t)},
					},
				},
			})
		}
		denied(
			t,
			trusted,
			altered(good, func(s *signing) { s.body = body }).bundle(t, statementOf(k.image.Encoded())),
			k.image,
			"no transparency log entry proves it",
		)
	})
}

// TestForeignRekorV2Entry: a bundle of version 0.3 with another's proof, or with
// one that was edited.
func TestForeignRekorV2Entry(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	image := digest.FromString("an image")
	trusted := identified(t, s)
	statement := statementOf(image.Encoded())
	open := func() *protobundle.Bundle {
		b := &protobundle.Bundle{}
		unmarshal(t, s.bundleBy(t, somebody, someIssuer, statement).Payload, b)
		return b
	}
	allowed(t, trusted, bundled(t, open()), image)
	for name, edit := range map[string]func(b, other *protobundle.Bundle){
		"another's entry": func(b, o *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = o.VerificationMaterial.TlogEntries
		},
		"another's timestamp": func(b, o *protobundle.Bundle) {
			b.VerificationMaterial.TimestampVerificationData = o.VerificationMaterial.TimestampVerificationData
		},
		"another's certificate": func(b, o *protobundle.Bundle) {
			b.VerificationMaterial.Content = o.VerificationMaterial.Content
		},
		"another's envelope": func(b, o *protobundle.Bundle) { b.Content = o.Content },
		"no timestamp: an entry's own time is not signed": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TimestampVerificationData = nil
		},
		"no entry": func(b, _ *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		"no proof": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionProof = nil
		},
		"no checkpoint": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint = nil
		},
		"no log ID": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].LogId = nil
		},
		"no kind": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].KindVersion = nil
		},
		"another index of the log": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].LogIndex = 1
		},
		"a hash too many": func(b, _ *protobundle.Bundle) {
			p := b.VerificationMaterial.TlogEntries[0].InclusionProof
			p.Hashes = append(p.Hashes, make([]byte, 32))
		},
		"a checkpoint edited": func(b, _ *protobundle.Bundle) {
			c := b.VerificationMaterial.TlogEntries[0].InclusionProof.Checkpoint
			c.Envelope = strings.Replace(c.Envelope, "\n1\n", "\n2\n", 1)
		},
		"a garbage promise beside the proof": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0].InclusionPromise = newPromise([]byte("garbage"))
		},
		"the same entry twice": func(b, _ *protobundle.Bundle) {
			m := b.VerificationMaterial
			m.TlogEntries = append(m.TlogEntries, m.TlogEntries[0])
		},
		"a bare key in the certificate's place (GHSA-fx35-mq7g-6g98)": func(b, _ *protobundle.Bundle) {
			der := must(x509.MarshalPKIXPublicKey(newECDSA(t, elliptic.P256()).Public()))
			b.VerificationMaterial.Content = &protobundle.VerificationMaterial_Certificate{
				Certificate: &protocommon.X509Certificate{
					RawBytes: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
				},
			}
		},
		"no certificate": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.Content = &protobundle.VerificationMaterial_PublicKey{
				PublicKey: &protocommon.PublicKeyIdentifier{Hint: "x"},
			}
		},
		"an empty chain": func(b, _ *protobundle.Bundle) {
			b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{
				X509CertificateChain: &protocommon.X509CertificateChain{},
			}
		},
		"a message signature": func(b, _ *protobundle.Bundle) {
			b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &protocommon.MessageSignature{
				Signature: []byte("x"),
				MessageDigest: &protocommon.HashOutput{
					Algorithm: protocommon.HashAlgorithm_SHA2_256,
					Digest:    must(json.Marshal("x")),
				},
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := open()
			edit(b, open())
			denied(t, trusted, bundled(t, b), image, "")
		})
	}
}

func TestAttestationConfusion(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	s := k.signed(t)
	provenance := statementWith(subject("sha256", k.image.Encoded(), ""), slsa, "{}")
	signatures := k.trust(t)
	attestations := k.trust(t, func(p *policy.Authority) { p.Accept = []string{slsa} })
	either := k.trust(t, func(p *policy.Authority) { p.Accept = []string{policy.SignaturePredicate, slsa} })
	for name, c := range map[string]Candidate{
		"bundle":   s.bundle(t, provenance),
		"envelope": s.envelope(t, provenance),
	} {
		t.Run("attestation/"+name, func(t *testing.T) {
			denied(t, signatures, c, k.image, "is an attestation")
			who := allowed(t, attestations, c, k.image)
			if who.PredicateType != slsa || string(who.Statement) != provenance || !attestations.Accepts(who) ||
				signatures.Accepts(who) {
				t.Errorf("says %+v", who)
			}
			allowed(t, either, c, k.image)
		})
	}
	for name, c := range s.formats(t, k.image) {
		t.Run("signature/"+name, func(t *testing.T) {
			denied(t, attestations, c, k.image, "is a signature")
			allowed(t, either, c, k.image)
		})
	}
	statement := statementOf(k.image.Encoded())
	sign := s.envelope(t, statement)
	t.Run("a signature's statement in an envelope of cosign 2", func(t *testing.T) {
		allowed(t, signatures, sign, k.image)
	})
	asEnvelope := func(c Candidate) Candidate { return change(c, func(c *Candidate) { c.Kind = Envelope }) }
	twoTypes := strings.Replace(statement, `"predicate"`, `"predicateType":"`+slsa+`","predicate"`, 1)
	for name, c := range map[string]Candidate{
		"payload as bundle":   {Kind: Bundle, Payload: []byte(payload(k.image.String()))},
		"envelope as bundle":  change(sign, func(c *Candidate) { c.Kind = Bundle }),
		"envelope as payload": change(sign, func(c *Candidate) { c.Kind = Legacy }),
		"payload as envelope": asEnvelope(s.legacy(t, payload(k.image.String()))),
		"bundle as envelope":  asEnvelope(s.bundle(t, provenance)),
		"of no kind":          change(sign, func(c *Candidate) { c.Kind = 0 }),
		"without subject":     s.bundle(t, statementWith("", policy.SignaturePredicate, "{}")),
		"subject in capitals": s.bundle(t, statementOf(strings.ToUpper(k.image.Encoded()))),
		"no statement":        s.bundle(t, `{"critical":{}}`),
		"statement twice":     s.bundle(t, statement+statement),
		"unparsable statement (GHSA-w6c6-c85g-mmv6)": s.bundle(t, `{"_type`),
		"two predicate types":                        s.bundle(t, twoTypes),
	} {
		t.Run(name, func(t *testing.T) { denied(t, either, c, k.image, "") })
	}
}

func TestCertificateConfusion(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	s := k.signed(t)
	keyed := altered(s, func(s *signing) { s.leaf = nil })
	key := authority(t, policyKey(t, s.key.Public(), "k"))
	demanding := witnessed(t, k, s.key, true, false)
	for name, c := range keyed.formats(t, k.image) {
		t.Run("key/"+name, func(t *testing.T) {
			denied(t, k.trust(t), c, k.image, "made with a key")
			allowed(t, key, c, k.image)
			allowed(t, demanding, c, k.image)
		})
	}
	for name, c := range s.formats(t, k.image) {
		t.Run("certificate/"+name, func(t *testing.T) {
			allowed(t, k.trust(t), c, k.image)
			denied(t, demanding, c, k.image, "") // the log entry is about a certificate
			if name == "bundle" {
				denied(t, key, c, k.image, "certificate")
			}
		})
	}
}

// witnessed is an authority of one key whose signatures need evidence.
func witnessed(t testing.TB, k keyless, key crypto.Signer, logged, stamped bool) *Authority {
	t.Helper()
	a, err := NewAuthority(policy.Authority{
		Name:            "key",
		Accept:          []string{policy.SignaturePredicate},
		Keys:            []policy.Key{policyKey(t, key.Public(), "k")},
		TrustRoots:      []string{"local"},
		TransparencyLog: logged,
		Timestamp:       stamped,
	}, nil, Trust{Roots: map[string]*Root{"local": rootOf("local", k.stack, k.fulcio)}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestKeyEvidence(t *testing.T) {
	t.Parallel()
	k, other := newKeyless(t), newKeyless(t)
	for name, key := range map[string]crypto.Signer{
		"P-256":              newECDSA(t, elliptic.P256()),
		"P-384 with SHA-256": newECDSA(t, elliptic.P384()),
	} {
		good := signing{stack: k.stack, key: key}
		for demand, a := range map[string]*Authority{
			"log":       witnessed(t, k, key, true, false),
			"timestamp": witnessed(t, k, key, false, true),
			"both":      witnessed(t, k, key, true, true),
		} {
			for format, c := range good.formats(t, k.image) {
				t.Run(name+"/"+demand+"/"+format, func(t *testing.T) { allowed(t, a, c, k.image) })
			}
			for lacking, s := range map[string]signing{
				"none":    altered(good, func(s *signing) { s.unlogged, s.unstamped = true, true }),
				"foreign": altered(good, func(s *signing) { s.stack = other.stack }),
				"of another signature": altered(good, func(s *signing) {
					s.stamp = func([]byte) []byte { return must(k.TimestampResponse([]byte("x"))) }
					s.body = func(b map[string]any) {
						b["spec"].(map[string]any)["payloadHash"] = hashOf([]byte("x"))
						b["spec"].(map[string]any)["data"] = map[string]any{"hash": hashOf([]byte("x"))}
					}
				}),
				"edited": altered(good, func(s *signing) {
					s.stamp = func(sig []byte) []byte {
						b := must(k.TimestampResponse(sig))
						b[len(b)-1] ^= 1
						return b
					}
					s.after = func(p *tlog.RekorPayload) { p.IntegratedTime-- }
				}),
			} {
				for format, c := range s.formats(t, k.image) {
					t.Run(name+"/"+demand+"/"+lacking+"/"+format, func(t *testing.T) { denied(t, a, c, k.image, "") })
				}
			}
		}
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	const name = "sourceRepositoryURI"
	pattern, err := policy.ParsePattern(`https://gitlab\.example/acme/.*`)
	if err != nil {
		t.Fatal(err)
	}
	a := k.trust(t, func(p *policy.Authority) {
		p.Identities = []policy.Identity{{
			Issuer: policy.Exactly(someIssuer),
			Claims: map[string]policy.Pattern{name: pattern},
		}}
	})
	signed := func(value string) Candidate {
		return k.signed(t, uri("https://gitlab.example/x"), claims(map[string]string{
			"issuer": someIssuer,
			name:     value,
		})).legacy(t, payload(k.image.String()))
	}
	allowed(t, a, signed("https://gitlab.example/acme/app"), k.image)
	for _, value := range []string{
		"https://gitlab.example/evil-acme/app",
		"https://gitlab.example/acme.evil/app",
		"https://gitlabxexample/acme/app",
		"https://evil.example/https://gitlab.example/acme/app",
		"x\nhttps://gitlab.example/acme/app",
		"https://gitlab.example/acme/app\nx",
		"https://gitlab.example/acme/app\x00\n",
		" https://gitlab.example/acme/app",
	} {
		t.Run(value, func(t *testing.T) { denied(t, a, signed(value), k.image, "claim sourceRepositoryURI is") })
	}
	denied(
		t,
		a,
		k.signed(t, uri("https://gitlab.example/x"), by(someIssuer)).legacy(t, payload(k.image.String())),
		k.image,
		`claim sourceRepositoryURI is ""`,
	)
}

func unmarshal(t testing.TB, b []byte, pb *protobundle.Bundle) {
	t.Helper()
	if err := protojson.Unmarshal(b, pb); err != nil {
		t.Fatal(err)
	}
}

// TestAuthorityConcurrency: one authority, many candidates at once. The race
// detector is the judge.
func TestAuthorityConcurrency(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	identity, pki := c.keyless.trust(t), c.trusts(t, stampedBy)
	var all sync.WaitGroup
	for range 4 {
		for _, candidate := range c.keyless.signed(t).formats(t, c.image) {
			all.Go(func() { _, _ = check(pki, candidate, c.image); allowed(t, identity, candidate, c.image) })
		}
		for _, candidate := range altered(c.signed(t), func(s *signing) { s.unstamped = false }).formats(t, c.image) {
			all.Go(func() { _, _ = check(identity, candidate, c.image); allowed(t, pki, candidate, c.image) })
		}
	}
	all.Wait()
}
