package verify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/proxy/upstream"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/sigs"
)

// signers is everybody whom policies of these tests may trust: keys a to d, a
// PKI, and a Sigstore root "local" with a timestamp authority and no log.
// Policies name their files: a.pub, corp.pem.
type signers struct {
	t     *testing.T
	dir   string
	reg   *hostile.Registry
	up    *upstream.Upstream
	keys  map[string]*ecdsa.PrivateKey
	corp  authority // corp.pem
	below authority // below.pem, certified by corp
	local authority // the root "local"
	times *ca.VirtualSigstore
	trust sigs.Trust
}

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

const signersRepo = "acme/app"

func newSigners(t *testing.T) *signers {
	t.Helper()
	s := &signers{t: t, dir: t.TempDir(), reg: hostile.New(), keys: map[string]*ecdsa.PrivateKey{}}
	server := httptest.NewServer(s.reg)
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	s.check(err)
	s.up, err = upstream.New(upstream.Config{Host: "reg.example", URL: base})
	s.check(err)
	t.Cleanup(s.up.Close)
	for _, name := range []string{"a", "b", "c", "d"} {
		s.keys[name] = s.newKey()
		s.write(name+".pub", s.publicPEM(s.keys[name].Public()))
	}
	s.corp, s.local = s.newAuthority("corporate", nil), s.newAuthority("local", nil)
	s.below = s.newAuthority("below", &s.corp)
	s.write("below.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.below.cert.Raw}))
	s.write("corp.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.corp.cert.Raw}))
	s.write("other.pem", pem.EncodeToMemory(&pem.Block{
		Type:  "CERTIFICATE",
		Bytes: s.newAuthority("corporate", nil).cert.Raw,
	}))
	s.times, err = ca.NewVirtualSigstore()
	s.check(err)
	s.trust = sigs.Trust{Keys: map[string]policy.Key{}, Roots: map[string]*sigs.Root{
		"local":   s.root("local", s.local, nil),
		"strange": s.root("strange", s.newAuthority("strange", nil), nil),
		"logged":  s.root("logged", s.local, s.times.RekorLogs()),
	}}
	kept, err := policy.ParseKey(s.publicPEM(s.keys["a"].Public()))
	s.check(err)
	s.trust.Keys["hashivault://a"] = kept
	return s
}

func (s *signers) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *signers) write(name string, text []byte) {
	s.t.Helper()
	s.check(os.WriteFile(filepath.Join(s.dir, name), text, 0o600))
}

func (s *signers) newKey() *ecdsa.PrivateKey {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.check(err)
	return key
}

func (s *signers) publicPEM(public crypto.PublicKey) []byte {
	s.t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	s.check(err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// newAuthority is one that parent certified, or itself.
func (s *signers) newAuthority(name string, parent *authority) authority {
	s.t.Helper()
	a := authority{key: s.newKey()}
	if parent == nil {
		parent = &a
	}
	a.cert = s.certificate(*parent, a.key.Public(), func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.ExtKeyUsage = pkix.Name{CommonName: name}, true, true, nil
		c.KeyUsage = x509.KeyUsageCertSign
	})
	return a
}

// certificate has a sign one for public; a without a certificate signs its own.
func (s *signers) certificate(a authority, public crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	s.t.Helper()
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	s.check(err)
	c := &x509.Certificate{
		SerialNumber: number,
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	change(c)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	s.check(err)
	made, err := x509.ParseCertificate(der)
	s.check(err)
	return made
}

// root is a Sigstore trusted root by way of its file, with this authority and
// these logs.
func (s *signers) root(name string, a authority, logs map[string]*root.TransparencyLog) *sigs.Root {
	s.t.Helper()
	material, err := root.NewTrustedRoot(
		root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{
			Root:                a.cert,
			ValidityPeriodStart: a.cert.NotBefore,
		}},
		nil,
		s.times.TimestampingAuthorities(),
		logs,
	)
	s.check(err)
	text, err := material.MarshalJSON()
	s.check(err)
	parsed, err := sigs.ParseRoot(name, text)
	s.check(err)
	return parsed
}

// gate is one that decides by these policies, or by this one policy.
func (s *signers) gate(text string) *verify.Gate {
	s.t.Helper()
	set := s.load(text)
	store, err := facts.OpenBolt(s.t.TempDir(), 1<<30)
	s.check(err)
	s.t.Cleanup(func() { _ = store.Close() })
	cache, err := verify.NewCache(10_000, 64<<20)
	s.check(err)
	s.t.Cleanup(cache.Close)
	gate, err := verify.New(verify.Config{
		Policies: set, Trust: s.trust, Store: store, Cache: cache, TTL: time.Hour, DenyTTL: time.Minute,
		Registry: func(host string) (verify.Registry, bool) { return s.up, host == "reg.example" },
		Limits: verify.Limits{
			ManifestBytes:    4 << 20,
			Descriptors:      2000,
			PayloadBytes:     8 << 20,
			VerdictBytes:     16 << 20,
			Signatures:       64,
			VerdictsInFlight: 64,
			VerifyTimeout:    time.Minute,
			ClientMisses:     1_000_000,
		},
	})
	s.check(err)
	return gate
}

func (s *signers) load(text string) *policy.Set {
	s.t.Helper()
	var doc yaml.Node
	s.check(yaml.Unmarshal([]byte(text), &doc))
	var roots yaml.Node
	s.write("root.json", []byte(`{}`))
	s.check(
		yaml.Unmarshal(
			[]byte(
				`[{name: local, file: root.json}, {name: strange, file: root.json}, {name: logged, file: root.json}]`,
			),
			&roots,
		),
	)
	set, problems := policy.Load(policy.Input{
		ConfigFile: "test",
		Dir:        s.dir,
		Inline:     doc.Content[0],
		TrustRoots: roots.Content[0],
	})
	if len(problems) > 0 {
		s.t.Fatalf("%v in\n%s", problems, text)
	}
	return set
}

// verdict is the gate's about image.
func (s *signers) verdict(gate *verify.Gate, image digest.Digest) verify.Verdict {
	s.t.Helper()
	repo := policy.Repository{Host: "reg.example", Path: signersRepo}
	_, v, err := gate.Manifest(s.t.Context(), repo.At(image), policy.Client{})
	s.check(err)
	return v
}

// settled is the verdict of a gate whose time for one is short: a busy machine
// may need several questions.
func (s *signers) settled(gate *verify.Gate, image digest.Digest) verify.Verdict {
	s.t.Helper()
	repo := policy.Repository{Host: "reg.example", Path: signersRepo}
	for range 20 {
		_, v, err := gate.Manifest(s.t.Context(), repo.At(image), policy.Client{})
		if !errors.Is(err, context.DeadlineExceeded) {
			s.check(err)
			return v
		}
	}
	s.t.Fatal("no verdict in any of 20 questions")
	return verify.Verdict{}
}

func (s *signers) image() digest.Digest { return s.reg.PushImage(signersRepo, "").Digest }

// attach publishes layers as a referrer of image.
func (s *signers) attach(image digest.Digest, layers ...hostile.Layer) {
	s.reg.PushArtifact(signersRepo, "", hostile.Artifact{Layers: layers, Subject: image})
}

// sign is a signature by the named key, with annotations pair by pair.
func (s *signers) sign(image digest.Digest, key string, annotations ...string) hostile.Layer {
	return hostile.SignatureLayer(hostile.Payload(signersRepo, image, annotations...), s.keys[key])
}

// certified is a signature by a new key that a certified, without evidence.
func (s *signers) certified(image digest.Digest, a authority, change func(*x509.Certificate)) hostile.Layer {
	s.t.Helper()
	key := s.newKey()
	layer := hostile.SignatureLayer(hostile.Payload(signersRepo, image), key)
	layer.Annotations["dev.sigstore.cosign/certificate"] = string(pem.EncodeToMemory(&pem.Block{
		Type:  "CERTIFICATE",
		Bytes: s.certificate(a, key.Public(), change).Raw,
	}))
	return layer
}

// stamped adds a timestamp of the local authority.
func (s *signers) stamped(layer hostile.Layer) hostile.Layer {
	s.t.Helper()
	signature, err := base64.StdEncoding.DecodeString(layer.Annotations["dev.cosignproject.cosign/signature"])
	s.check(err)
	token, err := s.times.TimestampResponse(signature)
	s.check(err)
	layer.Annotations["dev.sigstore.cosign/rfc3161timestamp"] = s.json(map[string]any{"SignedRFC3161Timestamp": token})
	return layer
}

// attestation is one by the named key, as cosign 2 writes it.
func (s *signers) attestation(image digest.Digest, key, predicateType, predicate string) hostile.Layer {
	s.t.Helper()
	statement := s.json(map[string]any{
		"_type":         "https://in-toto.io/Statement/v0.1",
		"predicateType": predicateType,
		"predicate":     json.RawMessage(predicate),
		"subject": []any{map[string]any{
			"name":   "reg.example/" + signersRepo,
			"digest": map[string]string{"sha256": image.Encoded()},
		}},
	})
	const inToto = "application/vnd.in-toto+json"
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inToto), inToto, len(statement), statement))
	signature, err := ecdsa.SignASN1(rand.Reader, s.keys[key], sum[:])
	s.check(err)
	return hostile.Layer{
		MediaType:   sigs.MediaTypeDSSE,
		Annotations: map[string]string{"dev.cosignproject.cosign/signature": ""},
		Body: []byte(s.json(map[string]any{
			"payloadType": inToto,
			"payload":     []byte(statement),
			"signatures":  []any{map[string]any{"sig": signature}},
		})),
	}
}

func (s *signers) json(v any) string {
	s.t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	s.check(e.Encode(v))
	return b.String()
}

func named(emails ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.EmailAddresses = emails }
}

// identity is what a Fulcio certificate says: a subject, and extensions by the
// last number of each.
func identity(subject string, extensions map[int]string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		u, err := url.Parse(subject)
		if err != nil {
			panic(err)
		}
		c.URIs = []*url.URL{u}
		for n := range 64 {
			if text, ok := extensions[n]; ok {
				der, err := asn1.MarshalWithParams(text, "utf8")
				if err != nil {
					panic(err)
				}
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
					Id:    asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n},
					Value: der,
				})
			}
		}
	}
}
