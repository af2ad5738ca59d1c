package sigs

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/pullgate/pullgate/policy"
)

// corporate is a PKI of one's own: a root in the policy, an intermediate that
// comes with the signature, and a stack whose timestamps may be trusted.
type corporate struct {
	keyless
	root, intermediate *issuer
}

func newCorporate(t testing.TB, change ...template) corporate {
	t.Helper()
	root := newIssuer(t, "corporate root", nil, valid(-48*time.Hour, 48*time.Hour))
	return corporate{
		newKeyless(t),
		root,
		newIssuer(
			t,
			"corporate intermediate",
			root,
			append([]template{valid(-48*time.Hour, 48*time.Hour)}, change...)...),
	}
}

const release = "release@acme.example"

// trusts is an authority of the PKI, for release unless changed.
func (c corporate) trusts(t testing.TB, change ...func(*policy.Authority)) *Authority {
	t.Helper()
	p := policy.Authority{
		Name: "corp", Accept: []string{policy.SignaturePredicate},
		PKI: &policy.Certificate{Roots: []*x509.Certificate{c.root.cert}, Subject: policy.Exactly(release)},
	}
	for _, f := range change {
		f(&p)
	}
	a, err := NewAuthority(p, nil, Trust{Roots: map[string]*Root{"local": rootOf("local", c.stack, c.fulcio)}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// signed is a signature with nothing but its certificates.
func (c corporate) signed(t testing.TB, change ...template) signing {
	t.Helper()
	if change == nil {
		change = []template{email(release)}
	}
	key := newECDSA(t, elliptic.P256())
	return signing{
		stack:     c.stack,
		key:       key,
		leaf:      c.intermediate.leaf(t, key.Public(), change...),
		chain:     []*x509.Certificate{c.intermediate.cert},
		unlogged:  true,
		unstamped: true,
	}
}

func stampedBy(p *policy.Authority)     { p.TrustRoots = []string{"local"} }
func mustBeStamped(p *policy.Authority) { stampedBy(p); p.PKI.RequireTimestamp = true }
func mustBeLogged(p *policy.Authority)  { stampedBy(p); p.TransparencyLog = true }

func TestOwnPKI(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	old, hence := valid(-30*time.Minute, -20*time.Minute), valid(20*time.Minute, 30*time.Minute)
	expired := newCorporate(t, valid(-48*time.Hour, -time.Minute))
	impostor := newCorporate(t)
	const none, another = "was not issued by the trusted authority", "its certificate is for"
	as := func(p ...func(*policy.Authority)) *Authority { return c.trusts(t, p...) }
	for name, test := range map[string]struct {
		a    *Authority
		s    signing
		want string // empty: allowed
	}{
		"current": {as(), c.signed(t), ""},
		"with the root beside the chain": {
			as(),
			altered(c.signed(t), func(s *signing) { s.chain = append(s.chain, c.root.cert) }),
			"",
		},
		"chain in another order": {
			as(),
			altered(c.signed(t), func(s *signing) { s.chain = []*x509.Certificate{c.root.cert, c.intermediate.cert} }),
			"",
		},
		"unneeded certificates in the chain": {
			as(),
			altered(c.signed(t), func(s *signing) { s.chain = append(s.chain, impostor.root.cert, c.fulcio.cert) }),
			"",
		},
		"stamped, though not demanded": {
			as(),
			altered(c.signed(t), func(s *signing) { s.unstamped = false }),
			"",
		},
		"intermediate in the policy": {
			as(func(p *policy.Authority) { p.PKI.Intermediates = []*x509.Certificate{c.intermediate.cert} }),
			altered(c.signed(t), func(s *signing) { s.chain = nil }),
			"",
		},
		"intermediate as the policy's root": {
			as(func(p *policy.Authority) { p.PKI.Roots = []*x509.Certificate{c.intermediate.cert} }),
			altered(c.signed(t), func(s *signing) { s.chain = nil }),
			"",
		},
		"one of two roots": {as(func(p *policy.Authority) {
			p.PKI.Roots = append([]*x509.Certificate{impostor.root.cert}, p.PKI.Roots...)
		}), c.signed(t), ""},
		"intermediate missing": {
			as(),
			altered(c.signed(t), func(s *signing) { s.chain = nil }),
			none,
		},
		"intermediate expired (CVE-2026-24122)": {expired.trusts(t), expired.signed(t), none},
		"intermediate expired, log required": {
			expired.trusts(t, mustBeLogged),
			altered(expired.signed(t), func(s *signing) { s.unlogged = false }),
			none,
		},
		"root not the policy's": {as(), impostor.signed(t), none},
		"foreign chain with our intermediate": {
			as(),
			altered(impostor.signed(t), func(s *signing) {
				s.chain = []*x509.Certificate{
					c.intermediate.cert,
					impostor.intermediate.cert,
				}
			}),
			none,
		},
		"self-signed leaf": {
			as(),
			altered(c.signed(t), func(s *signing) { s.leaf = selfSigned(t, s, release) }),
			none,
		},
		"leaf of the root itself": {
			as(),
			altered(c.signed(t), func(s *signing) {
				s.leaf, s.chain = c.root.leaf(t, s.key.Public(), email(release)), nil
			}),
			"",
		},
		"leaf expired": {as(), c.signed(t, email(release), old), none},
		"leaf expired, stamped now": {
			as(stampedBy),
			altered(c.signed(t, email(release), old), func(s *signing) { s.unstamped = false }),
			none,
		},
		"leaf expired, stamped by another authority": {
			as(stampedBy),
			altered(c.signed(t, email(release), old), func(s *signing) {
				s.unstamped, s.stack = false, impostor.stack
			}),
			none,
		},
		"leaf not valid yet": {as(), c.signed(t, email(release), hence), none},
		"leaf not valid yet, stamped": {
			as(mustBeStamped),
			altered(c.signed(t, email(release), hence), func(s *signing) { s.unstamped = false }),
			none,
		},
		"stamp demanded and there": {
			as(mustBeStamped),
			altered(c.signed(t), func(s *signing) { s.unstamped = false }),
			"",
		},
		"stamp demanded and missing": {
			as(mustBeStamped),
			c.signed(t),
			"no timestamp proves when it was made",
		},
		"stamp demanded, another authority's": {
			as(mustBeStamped),
			altered(c.signed(t), func(s *signing) { s.unstamped, s.stack = false, impostor.stack }),
			"no trusted timestamp",
		},
		"stamp demanded, of another signature": {as(mustBeStamped), altered(c.signed(t), func(s *signing) {
			s.unstamped, s.stamp = false, func([]byte) []byte { return must(c.TimestampResponse([]byte("x"))) }
		}), "no trusted timestamp"},
		"log demanded and there": {
			as(mustBeLogged),
			altered(c.signed(t), func(s *signing) { s.unlogged = false }),
			"",
		},
		"log demanded and missing": {as(mustBeLogged), c.signed(t), "no transparency log entry"},
		"key instead": {
			as(),
			altered(c.signed(t), func(s *signing) { s.leaf, s.chain = nil, nil }),
			"made with a key",
		},
		"another key": {
			as(),
			altered(c.signed(t), func(s *signing) { s.key = newECDSA(t, elliptic.P256()) }),
			"another key, or altered",
		},
		"fulcio's certificate": {
			as(),
			altered(c.keyless.signed(t, email(release), by(someIssuer)), func(s *signing) {
				s.unlogged, s.unstamped = true, true
			}),
			none,
		},
		"no codeSigning": {
			as(),
			c.signed(t, email(release), func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
			"codeSigning",
		},
		"a server's": {
			as(),
			c.signed(t, email(release), func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}),
			"codeSigning",
		},
		"an authority's": {
			as(),
			altered(c.signed(t), func(s *signing) { s.key, s.leaf = c.intermediate.key, c.intermediate.cert }),
			"authority's",
		},
		"name only in the subject": {
			as(),
			c.signed(t, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: release} }),
			another,
		},
		"name as part of another": {as(), c.signed(t, email(release+".evil.example")), another},
		"no name":                 {as(), c.signed(t, func(*x509.Certificate) {}), another},
		"second of two names":     {as(), c.signed(t, email("other@acme.example"), email(release)), ""},
		"a host's name": {
			as(func(p *policy.Authority) { p.PKI.Subject = policy.Exactly("signer.acme.example") }),
			c.signed(t, func(c *x509.Certificate) { c.DNSNames = []string{"signer.acme.example"} }),
			"",
		},
		"a host's other name": {
			as(func(p *policy.Authority) { p.PKI.Subject = policy.Exactly("signer.acme.example") }),
			c.signed(t, func(c *x509.Certificate) { c.DNSNames = []string{"signer.acme.example.evil.example"} }),
			another,
		},
		"an address": {
			as(func(p *policy.Authority) { p.PKI.Subject = policy.Exactly("10.1.2.3") }),
			c.signed(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("10.1.2.3")} }),
			"",
		},
		"a URI": {
			as(func(p *policy.Authority) { p.PKI.Subject = policy.Exactly("spiffe://acme.example/signer") }),
			c.signed(t, uri("spiffe://acme.example/signer")),
			"",
		},
		"another critical extension": {as(), c.signed(t, email(release), func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
				Id:       []int{1, 2, 3, 4},
				Critical: true,
				Value:    []byte{5, 0},
			})
		}), none},
	} {
		for format, candidate := range test.s.formats(t, c.image) {
			t.Run(name+"/"+format, func(t *testing.T) {
				if test.want != "" {
					denied(t, test.a, candidate, c.image, test.want)
					return
				}
				who := allowed(t, test.a, candidate, c.image)
				if who.Subject == "" || who.Issuer != "" || who.KeyID != "" {
					t.Errorf("signed by %+v", who)
				}
			})
		}
	}
}

func selfSigned(t testing.TB, s *signing, name string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber:   serial(t),
		EmailAddresses: []string{name},
		NotBefore:      time.Now().Add(-time.Hour),
		NotAfter:       time.Now().Add(time.Hour),
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		Subject:        pkix.Name{CommonName: "corporate intermediate"},
	}
	return certificateBy(t, c, &issuer{key: s.key}, c, s.key.Public())
}

// TestNameConstraints hold for a leaf without an address or a URI too, for which
// the verifier is given a name to summarize.
func TestNameConstraints(t *testing.T) {
	t.Parallel()
	c := newCorporate(t, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"acme.example"}, true
	})
	for host, want := range map[string]bool{"signer.acme.example": true, "signer.evil.example": false} {
		a := c.trusts(t, func(p *policy.Authority) { p.PKI.Subject = policy.Exactly(host) })
		s := c.signed(t, func(c *x509.Certificate) { c.DNSNames = []string{host} })
		for format, candidate := range s.formats(t, c.image) {
			t.Run(host+"/"+format, func(t *testing.T) {
				if want {
					allowed(t, a, candidate, c.image)
				} else {
					denied(t, a, candidate, c.image, "was not issued by the trusted authority")
				}
			})
		}
	}
}

// TestCertificateEnd: an allow ends with the first certificate of the chain that
// does, wherever it came from; one that a timestamp proves does not.
func TestCertificateEnd(t *testing.T) {
	t.Parallel()
	soon := valid(-time.Hour, 5*time.Minute)
	for name, test := range map[string]struct {
		c    corporate
		leaf template
	}{
		"leaf":         {newCorporate(t), soon},
		"intermediate": {newCorporate(t, soon), valid(-time.Minute, time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			s := test.c.signed(t, email(release), test.leaf)
			end := s.leaf.NotAfter
			if name == "intermediate" {
				end = test.c.intermediate.cert.NotAfter
			}
			if who := allowed(
				t,
				test.c.trusts(t),
				s.legacy(t, payload(test.c.image.String())),
				test.c.image,
			); !who.Until.Equal(
				end,
			) {
				t.Errorf("until %s, want %s", who.Until, end)
			}
			inPolicy := test.c.trusts(
				t,
				func(p *policy.Authority) { p.PKI.Intermediates = []*x509.Certificate{test.c.intermediate.cert} },
			)
			if who := allowed(
				t,
				inPolicy,
				altered(s, func(s *signing) { s.chain = nil }).legacy(t, payload(test.c.image.String())),
				test.c.image,
			); !who.Until.Equal(
				end,
			) {
				t.Errorf("with the intermediate in the policy until %s, want %s", who.Until, end)
			}
			s.unstamped = false
			if who := allowed(
				t,
				test.c.trusts(t, mustBeStamped),
				s.legacy(t, payload(test.c.image.String())),
				test.c.image,
			); !who.Until.IsZero() {
				t.Errorf("stamped, and until %s", who.Until)
			}
		})
	}
}

// TestSameSigner: a quorum is of people. One certificate with two names is one
// signer, and so is a key that a certificate was issued for.
func TestSameSigner(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	either := c.trusts(t, func(p *policy.Authority) { p.PKI.Subject = pattern(t, `.*@acme\.example`) })
	sign := func(s signing) Signer {
		return allowed(t, either, s.legacy(t, payload(c.image.String())), c.image)
	}
	first, second, both := sign(
		c.signed(t, email("a@acme.example")),
	), sign(
		c.signed(t, email("b@acme.example")),
	), sign(
		c.signed(t, email("a@acme.example"), email("b@acme.example")),
	)
	again := sign(c.signed(t, email("a@acme.example")))
	s := c.signed(t, email("c@acme.example"))
	certified := sign(s)
	s.leaf, s.chain = nil, nil
	key := allowed(t, authority(t, policyKey(t, s.key.Public(), "k")), s.legacy(t, payload(c.image.String())), c.image)
	identity := allowed(t, c.keyless.trust(t), c.keyless.signed(t).legacy(t, payload(c.image.String())), c.image)
	workflow := func(name string) Signer {
		k := c.keyless
		a := k.trust(t, func(p *policy.Authority) {
			p.Identities = []policy.Identity{{Issuer: policy.Exactly(someIssuer), Subject: pattern(t, ".*")}}
		})
		return allowed(t, a, k.signed(t, uri(name), by(someIssuer)).legacy(t, payload(k.image.String())), k.image)
	}
	const release = "https://github.com/acme/app/.github/workflows/release.yml"
	onMain := workflow(release + "@refs/heads/main")
	service := func(name string) Signer {
		a := c.trusts(t, func(p *policy.Authority) { p.PKI.Subject = pattern(t, `https://.*`) })
		return allowed(t, a, c.signed(t, uri(name)).legacy(t, payload(c.image.String())), c.image)
	}

	for _, test := range []struct {
		name     string
		one, two Signer
		want     bool
	}{
		{"a workflow on two branches", onMain, workflow(release + "@refs/heads/next"), true},
		{"a workflow on a branch and a tag", onMain, workflow(release + "@refs/tags/v1@2"), true},
		{"a workflow on a commit", onMain, workflow(release + "@0123456789abcdef0123456789abcdef01234567"), true},
		{
			"two workflows on one branch",
			onMain,
			workflow("https://github.com/acme/app/.github/workflows/test.yml@refs/heads/main"),
			false,
		},
		{
			"two repositories' workflows",
			onMain,
			workflow("https://github.com/acme/lib/.github/workflows/release.yml@refs/heads/main"),
			false,
		},
		{
			"two hosts' workflows",
			workflow("https://a@gitlab.example/acme/app//.gitlab-ci.yml@refs/heads/main"),
			workflow("https://a@gitlab.other.example/acme/app//.gitlab-ci.yml@refs/heads/main"),
			false,
		},
		{
			"names of a PKI's own",
			service("https://acme.example/signer@a"),
			service("https://acme.example/signer@b"),
			false,
		},
		{"two people", first, second, false},
		{"one with two keys", first, again, true},
		{"one of two names", first, both, true},
		{"the other of two names", both, second, true},
		{"a key and its certificate", key, certified, true},
		{"a key and another's certificate", key, first, false},
		{"keyless and PKI", identity, first, false},
	} {
		if test.one.Same(test.two) != test.want || test.two.Same(test.one) != test.want {
			t.Errorf("%s: %+v and %+v", test.name, test.one, test.two)
		}
	}
}

func pattern(t testing.TB, text string) policy.Pattern {
	t.Helper()
	p, err := policy.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestMalformedEvidence: anything may stand where evidence should be; it is one
// reason, and no crash.
func TestMalformedEvidence(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	authorities := map[string]*Authority{
		"keyless":      c.keyless.trust(t),
		"pki":          c.trusts(t, mustBeStamped),
		"pki with log": c.trusts(t, mustBeLogged),
	}
	good := map[string]signing{
		"keyless": c.keyless.signed(t),
		"pki":     altered(c.signed(t), func(s *signing) { s.unlogged, s.unstamped = false, false }),
	}
	good["pki with log"] = good["pki"]
	junk := []string{
		"null",
		"{}",
		"[]",
		`""`,
		"0",
		"{",
		"\x00",
		`{"Payload":null}`,
		`{"Payload":{}}`,
		`{"SignedEntryTimestamp":"","Payload":{"body":"e30="}}`,
		`{"SignedEntryTimestamp":"AAAA","Payload":{"body":"bnVsbA==","integratedTime":1,"logIndex":1,"logID":"00"}}`,
		`{"SignedRFC3161Timestamp":null}`,
		`{"SignedRFC3161Timestamp":""}`,
		`{"SignedRFC3161Timestamp":"AAAA"}`,
		`{"SignedRFC3161Timestamp":"MAA="}`,
		`{"SignedRFC3161Timestamp":"MAMCAQA="}`,
		`{"SignedRFC3161Timestamp":"MAUwAwIBAA=="}`,
		"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
		strings.Repeat("x", maxAnnotation+1),
		strings.Repeat(string(pemOf(c.root.cert)), 20),
	}
	for kind, a := range authorities {
		candidate := good[kind].legacy(t, payload(c.image.String()))
		allowed(t, a, candidate, c.image)
		needed := map[string][]string{
			"keyless":      {annotationCertificate, annotationLogEntry},
			"pki":          {annotationCertificate, annotationTimestamp},
			"pki with log": {annotationCertificate, annotationLogEntry},
		}[kind]
		for _, name := range needed {
			for i, text := range append(junk, "") {
				t.Run(fmt.Sprintf("%s/%s/%d", kind, name, i), func(t *testing.T) {
					denied(t, a, change(candidate, func(c *Candidate) { c.Annotations[name] = text }), c.image, "")
				})
			}
		}
		if kind != "keyless" { // what is wrong with the chain
			for i, text := range junk {
				t.Run(fmt.Sprintf("%s/chain/%d", kind, i), func(t *testing.T) {
					denied(
						t,
						a,
						change(candidate, func(c *Candidate) { c.Annotations[annotationChain] = text }),
						c.image,
						"",
					)
				})
			}
		}
	}
}

// TestAlteredEvidence: a signature that needs all its evidence does not count when
// that is cut short anywhere, and nothing panics.
func TestAlteredEvidence(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t, func(p *policy.Authority) { p.Timestamp = true })
	c := k.signed(t).bundle(t, statementOf(k.image.Encoded()))
	allowed(t, a, c, k.image)
	for at := 0; at < len(c.Payload); at += 7 {
		denied(t, a, change(c, func(c *Candidate) { c.Payload = c.Payload[:at] }), k.image, "")
		who, err := check(a, change(c, func(c *Candidate) { c.Payload[at] ^= 0x20 }), k.image)
		if err == nil &&
			(who.Subject != somebody || who.PredicateType != policy.SignaturePredicate ||
				!strings.Contains(string(who.Statement), k.image.Encoded())) {
			t.Errorf("byte %d: %+v", at, who)
		}
	}
}

// TestMalformedLogEntries: a log may truly have signed anything; it is one reason,
// and no crash.
func TestMalformedLogEntries(t *testing.T) {
	t.Parallel()
	k := newKeyless(t)
	a := k.trust(t)
	s := k.signed(t)
	statement := statementOf(k.image.Encoded())
	signature := sign(t, s.key, pae(inToto, statement))
	junk := []any{
		nil,
		"",
		"x",
		0,
		-1,
		1e300,
		true,
		[]any{},
		[]any{nil},
		[]any{"x"},
		[]any{map[string]any{}},
		map[string]any{},
		map[string]any{"x": nil},
	}
	for kind, body := range map[string]func() map[string]any{
		"dsse":   func() map[string]any { return s.dsseBody(t, statement, signature) },
		"intoto": func() map[string]any { return s.intotoBody(t, statement, signature) },
		"hashedrekord": func() map[string]any {
			return map[string]any{
				"apiVersion": "0.0.1",
				"kind":       "hashedrekord",
				"spec": map[string]any{
					"data": map[string]any{"hash": hashOf([]byte(statement))},
					"signature": map[string]any{
						"content":   signature,
						"publicKey": map[string]any{"content": s.verifier(t)},
					},
				},
			}
		},
		"rekor v2": func() map[string]any {
			return map[string]any{
				"apiVersion": "0.0.2",
				"kind":       "hashedrekord",
				"spec": map[string]any{"hashedRekordV002": map[string]any{
					"data": map[string]any{"algorithm": "SHA2_256", "digest": signature[:32]},
					"signature": map[string]any{
						"content": signature,
						"verifier": map[string]any{
							"keyDetails":      "PKIX_ECDSA_P256_SHA_256",
							"x509Certificate": map[string]any{"rawBytes": s.leaf.Raw},
						},
					},
				}},
			}
		},
	} {
		whole := plainJSON(t, body())
		for _, path := range paths(whole, nil) {
			for i, value := range append(junk, absent{}) {
				entry := replaced(plainJSON(t, body()), path, value)
				t.Run(fmt.Sprintf("%s/%s/%d", kind, strings.Join(path, "."), i), func(t *testing.T) {
					c := altered(s, func(s *signing) {
						s.body = func(b map[string]any) {
							clear(b)
							if m, ok := entry.(map[string]any); ok {
								for name, v := range m {
									b[name] = v
								}
							}
						}
					}).bundle(t, statement)
					defer func() {
						if p := recover(); p != nil {
							t.Errorf("panic: %v", p)
						}
					}()
					if who, err := check(
						a,
						c,
						k.image,
					); err == nil &&
						(who.Subject != somebody || kind == "hashedrekord" || kind == "rekor v2") {
						t.Errorf("counts as %+v", who)
					}
				})
			}
		}
	}
}

// absent, as a value, takes a field away.
type absent struct{}

// plainJSON is v as JSON has it.
func plainJSON(t testing.TB, v any) any {
	t.Helper()
	var plain any
	if err := json.Unmarshal([]byte(encoded(t, v)), &plain); err != nil {
		t.Fatal(err)
	}
	return plain
}

// paths lists where there is something in v.
func paths(v any, at []string) [][]string {
	list := [][]string{}
	switch v := v.(type) {
	case map[string]any:
		for name, one := range v {
			list = append(list, slices.Concat(at, []string{name}))
			list = append(list, paths(one, slices.Concat(at, []string{name}))...)
		}
	case []any:
		for i, one := range v {
			list = append(list, paths(one, slices.Concat(at, []string{fmt.Sprint(i)}))...)
		}
	}
	return list
}

// replaced puts value where path leads.
func replaced(v any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	switch v := v.(type) {
	case map[string]any:
		if _, gone := value.(absent); gone && len(path) == 1 {
			delete(v, path[0])
		} else if len(path) == 1 {
			v[path[0]] = value
		} else {
			v[path[0]] = replaced(v[path[0]], path[1:], value)
		}
		return v
	case []any:
		v[0] = replaced(v[0], path[1:], value)
		return v
	}
	return value
}

// TestUnconstrainedName: name constraints say nothing of an other name (RFC 5280,
// 4.2.1.10; Go knows none of that kind), so an authority that may only name its own
// could write any name beside it.
func TestUnconstrainedName(t *testing.T) {
	t.Parallel()
	c := newCorporate(t, func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.PermittedDNSDomainsCritical = []string{"branch.example"}, true
	})
	other, err := cryptoutils.MarshalOtherNameSAN(release, false)
	if err != nil {
		t.Fatal(err)
	}
	var names []asn1.RawValue
	if _, err := asn1.Unmarshal(other.Value, &names); err != nil {
		t.Fatal(err)
	}
	names = append(names, asn1.RawValue{
		Class: asn1.ClassContextSpecific,
		Tag:   1,
		Bytes: []byte("someone@branch.example"),
	})
	value, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: cryptoutils.SANOID, Value: value})
	}
	for kind, names := range map[string]template{
		"other name": leaf,
		"URI":        func(c *x509.Certificate) { c.URIs = []*url.URL{{Path: release}} },
		"DNS":        func(c *x509.Certificate) { c.DNSNames = []string{release} },
		"all": func(c *x509.Certificate) {
			c.DNSNames, c.EmailAddresses = []string{release}, []string{"someone@branch.example"}
		},
	} {
		for format, candidate := range c.signed(t, names).formats(t, c.image) {
			t.Run(kind+"/"+format, func(t *testing.T) {
				denied(t, c.trusts(t), candidate, c.image, "only names of the kinds it constrains count")
			})
		}
	}
	own := c.trusts(t, func(p *policy.Authority) { p.PKI.Subject = policy.Exactly("someone@branch.example") })
	for _, candidate := range c.signed(t, email("someone@branch.example")).formats(t, c.image) {
		allowed(t, own, candidate, c.image)
	}
}

// TestCertificateFiles: what people attach to a signature are files, with the
// leaf and its chain in one or in two, and in any order.
func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	s := c.signed(t)
	other := c.signed(t, email(release))
	leaf, chain := string(pemOf(s.leaf)), string(pemOf(c.intermediate.cert))
	root, stranger := string(pemOf(c.root.cert)), string(pemOf(other.leaf))
	trusted := c.trusts(t)
	text := payload(c.image.String())

	for name, test := range map[string]struct {
		certificate, chain string
		want               string // empty: allowed
	}{
		"leaf and chain in one file":          {leaf + chain, "", ""},
		"leaf, chain and root in one file":    {leaf + chain + root, "", ""},
		"leaf last in one file":               {root + chain + leaf, "", ""},
		"leaf and chain, and the chain again": {leaf + chain, chain + root, ""},
		"chain begins with the leaf":          {leaf, leaf + chain + root, ""},
		"chain ends with the leaf":            {leaf, root + chain + leaf, ""},
		"leaf in the chain's file":            {chain, leaf + root, ""},
		"two signers in one file":             {leaf + stranger + chain, "", "that is no CA's"},
		"another signer in the chain":         {leaf, stranger + chain, "that is no CA's"},
		"another signer's certificate first":  {stranger + leaf + chain, "", "that is no CA's"},
		"another's certificate":               {stranger, chain, "another key, or altered"},
		"authorities alone":                   {chain + root, "", "authority's"},
		"something behind the certificates":   {leaf + chain + "x", "", "not PEM certificates"},
		"more than are read":                  {leaf, strings.Repeat(chain, 8), "more than 8 certificates"},
	} {
		t.Run(name, func(t *testing.T) {
			candidate := change(s.legacy(t, text), func(c *Candidate) {
				c.Annotations[annotationCertificate], c.Annotations[annotationChain] = test.certificate, test.chain
			})
			if test.want != "" {
				denied(t, trusted, candidate, c.image, test.want)
				return
			}
			allowed(t, trusted, candidate, c.image)
		})
	}

	t.Run("leaf second in a bundle", func(t *testing.T) {
		candidate := s.bundle(t, statementOf(c.image.Encoded()), func(b *protobundle.Bundle) {
			slices.Reverse(b.VerificationMaterial.GetX509CertificateChain().Certificates)
		})
		denied(t, trusted, candidate, c.image, "authority's")
	})
}

// TestCertifiedKeys: a certificate's key signs in every way in which a key of a
// policy may.
func TestCertifiedKeys(t *testing.T) {
	t.Parallel()
	c := newCorporate(t)
	text, statement := payload(c.image.String()), statementOf(c.image.Encoded())
	stamped := c.trusts(t, mustBeStamped)

	for name, key := range newKeys(t) {
		s := altered(c.signed(t), func(s *signing) {
			s.key, s.unstamped = key, false
			s.leaf = c.intermediate.leaf(t, key.Public(), email(release))
		})
		other := altered(s, func(s *signing) { s.key = newKeys(t)[name] })
		for format, candidate := range s.formats(t, c.image) {
			t.Run(name+"/"+format, func(t *testing.T) {
				allowed(t, c.trusts(t), candidate, c.image)
				allowed(t, stamped, candidate, c.image)
			})
		}
		for format, candidate := range other.formats(t, c.image) {
			t.Run(name+"/"+format+" by another key", func(t *testing.T) {
				denied(t, c.trusts(t), candidate, c.image, "another key, or altered")
			})
		}
	}

	key := newKeys(t)["RSA"]
	s := altered(c.signed(t), func(s *signing) {
		s.key, s.leaf = key, c.intermediate.leaf(t, key.Public(), email(release))
	})
	for name, opts := range rsaWays {
		t.Run(name, func(t *testing.T) {
			allowed(t, c.trusts(t), change(s.legacy(t, text), func(c *Candidate) {
				signature := signRSA(t, key, []byte(text), opts)
				c.Annotations[AnnotationSignature] = base64.StdEncoding.EncodeToString(signature)
			}), c.image)
			allowed(t, c.trusts(t), s.bundle(t, statement, func(b *protobundle.Bundle) {
				b.GetDsseEnvelope().GetSignatures()[0].Sig = signRSA(t, key, pae(inToto, statement), opts)
			}), c.image)
		})
	}
}
