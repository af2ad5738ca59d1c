package sigs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
)

// issuer is a certificate authority of the tests' own, so that they can have
// every certificate that a real one would never issue.
type issuer struct {
	cert   *x509.Certificate
	key    crypto.Signer
	parent *issuer
}

type template = func(*x509.Certificate)

// newIssuer makes an authority, self-signed without a parent.
func newIssuer(t testing.TB, name string, parent *issuer, change ...template) *issuer {
	t.Helper()
	i := &issuer{key: newECDSA(t, elliptic.P256()), parent: parent}
	c := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	for _, f := range change {
		f(c)
	}
	by := i
	if parent != nil {
		by = parent
	}
	i.cert = certificateBy(t, c, by, c, i.key.Public())
	return i
}

// leaf issues a certificate to sign code with, for public; change says to whom.
func (i *issuer) leaf(t testing.TB, public crypto.PublicKey, change ...template) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: serial(t),
		NotBefore:    time.Now().Add(-5 * time.Minute),
		NotAfter:     time.Now().Add(10 * time.Minute),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	for _, f := range change {
		f(c)
	}
	return certificateBy(t, c, i, nil, public)
}

// certificateBy signs c; parent is what c names as its issuer, by's own
// certificate unless by is just being made.
func certificateBy(
	t testing.TB,
	c *x509.Certificate,
	by *issuer,
	parent *x509.Certificate,
	public crypto.PublicKey,
) *x509.Certificate {
	t.Helper()
	if by.cert != nil {
		parent = by.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, by.key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func email(address string) template {
	return func(c *x509.Certificate) { c.EmailAddresses = append(c.EmailAddresses, address) }
}

func uri(address string) template {
	return func(c *x509.Certificate) {
		u, err := url.Parse(address)
		if err != nil {
			panic(err)
		}
		c.URIs = append(c.URIs, u)
	}
}

// valid is from one time to another, counted from now.
func valid(from, to time.Duration) template {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
}

// fulcioNumbers are the last numbers of Fulcio's extensions.
var fulcioNumbers = map[string]int{
	"issuer":                              8,
	claimSigner:                           9,
	"buildSignerDigest":                   10,
	"runnerEnvironment":                   11,
	claimRepository:                       12,
	"sourceRepositoryDigest":              13,
	claimRef:                              14,
	"sourceRepositoryIdentifier":          15,
	claimOwner:                            16,
	"sourceRepositoryOwnerIdentifier":     17,
	"buildConfigURI":                      18,
	"buildConfigDigest":                   19,
	claimTrigger:                          20,
	"runInvocationURI":                    21,
	"sourceRepositoryVisibilityAtSigning": 22,
}

const (
	claimSigner     = "buildSignerURI"
	claimOwner      = "sourceRepositoryOwnerURI"
	claimRepository = "sourceRepositoryURI"
	claimRef        = "sourceRepositoryRef"
	claimTrigger    = "buildTrigger"
)

// claims are Fulcio's extensions, by their names in policies.
func claims(values map[string]string) template {
	return func(c *x509.Certificate) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			der, err := asn1.MarshalWithParams(values[name], "utf8")
			if err != nil {
				panic(err)
			}
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
				Id:    asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, fulcioNumbers[name]},
				Value: der,
			})
		}
	}
}

func by(issuer string) template { return claims(map[string]string{"issuer": issuer}) }

// certificateLog is one whose timestamp a root demands in certificates.
type certificateLog struct{ key *ecdsa.PrivateKey }

func (l certificateLog) id(t testing.TB) [32]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(der)
}

func (l certificateLog) trusted(t testing.TB) map[string]*root.TransparencyLog {
	id := l.id(t)
	return map[string]*root.TransparencyLog{hex.EncodeToString(id[:]): {
		PublicKey:         l.key.Public(),
		ID:                id[:],
		HashFunc:          crypto.SHA256,
		SignatureHashFunc: crypto.SHA256,
	}}
}

// leaf is a certificate with this log's timestamp in it (RFC 6962, section 3.2:
// the log signs the certificate as it is without the timestamp).
func (l certificateLog) leaf(t testing.TB, i *issuer, public crypto.PublicKey, change ...template) *x509.Certificate {
	t.Helper()
	number := serial(t)
	same := []template{func(c *x509.Certificate) {
		c.SerialNumber = number
		c.NotBefore, c.NotAfter = time.Now().Add(
			-5*time.Minute,
		).Truncate(
			time.Second,
		), time.Now().Add(
			10*time.Minute,
		).Truncate(
			time.Second,
		)
	}}
	bare := i.leaf(t, public, append(same, change...)...)
	issuer := sha256.Sum256(i.cert.RawSubjectPublicKeyInfo)
	at := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixMilli()))
	signed := append([]byte{0, 0}, at...) // v1, certificate_timestamp
	signed = append(signed, 0, 1)         // precert_entry
	signed = append(signed, issuer[:]...)
	signed = append(
		signed,
		byte(len(bare.RawTBSCertificate)>>16),
		byte(len(bare.RawTBSCertificate)>>8),
		byte(len(bare.RawTBSCertificate)),
	)
	signed = append(append(signed, bare.RawTBSCertificate...), 0, 0)
	signature := sign(t, l.key, signed)
	id := l.id(t)
	sct := append([]byte{0}, id[:]...)
	sct = append(append(sct, at...), 0, 0, 4, 3) // no extensions; SHA-256, ECDSA
	sct = append(binary.BigEndian.AppendUint16(sct, uint16(len(signature))), signature...)
	list := append(binary.BigEndian.AppendUint16(nil, uint16(len(sct))), sct...)
	list = append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
	value, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return i.leaf(t, public, append(append(same, change...), func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
			Id:    asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2},
			Value: value,
		})
	})...)
}

// material is a stack's logs and timestamps with certificate authorities of the
// tests' own.
type material struct {
	root.TrustedMaterial
	authorities []root.CertificateAuthority
	logs        map[string]*root.TransparencyLog
	noLog       bool
}

func (m material) FulcioCertificateAuthorities() []root.CertificateAuthority { return m.authorities }
func (m material) CTLogs() map[string]*root.TransparencyLog                  { return m.logs }
func (m material) RekorLogs() map[string]*root.TransparencyLog {
	if m.noLog {
		return nil
	}
	return m.TrustedMaterial.RekorLogs()
}

func rootOf(name string, s stack, i *issuer, change ...func(*material)) *Root {
	m := material{TrustedMaterial: s.VirtualSigstore}
	ca := &root.FulcioCertificateAuthority{}
	for ; i.parent != nil; i = i.parent {
		ca.Intermediates = append(ca.Intermediates, i.cert)
	}
	ca.Root = i.cert
	m.authorities = []root.CertificateAuthority{ca}
	for _, f := range change {
		f(&m)
	}
	return &Root{name: name, fingerprint: name, material: m}
}

// signing is one signature being made, with whatever evidence.
type signing struct {
	stack stack
	key   crypto.Signer
	leaf  *x509.Certificate
	chain []*x509.Certificate

	unlogged  bool
	unstamped bool
	logAt     time.Time                     // what the log says; zero: now
	body      func(map[string]any)          // changes the log entry's body, which the log then signs
	entry     func(*tlog.RekorPayload)      // changes what the log signs
	after     func(*tlog.RekorPayload)      // changes it after the log signed it
	stamp     func(signature []byte) []byte // what is stamped instead of the signature
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// verifier is what a log entry names: the certificate, or the key.
func (s signing) verifier(t testing.TB) []byte {
	t.Helper()
	if s.leaf != nil {
		return pemOf(s.leaf)
	}
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func hashOf(b []byte) map[string]any {
	sum := sha256.Sum256(b)
	return map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}
}

// log has the stack's Rekor log sign an entry with this body.
func (s signing) log(t testing.TB, body map[string]any) (tlog.RekorPayload, []byte) {
	t.Helper()
	if s.body != nil {
		s.body(body)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.stack.RekorLogID()
	if err != nil {
		t.Fatal(err)
	}
	if s.logAt.IsZero() {
		s.logAt = time.Now()
	}
	payload := tlog.RekorPayload{
		Body:           base64.StdEncoding.EncodeToString(text),
		IntegratedTime: s.logAt.Unix(),
		LogIndex:       7,
		LogID:          id,
	}
	if s.entry != nil {
		s.entry(&payload)
	}
	promise, err := s.stack.RekorSignPayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	if s.after != nil {
		s.after(&payload)
	}
	return payload, promise
}

func (s signing) token(t testing.TB, signature []byte) []byte {
	t.Helper()
	if s.stamp != nil {
		return s.stamp(signature)
	}
	token, err := s.stack.TimestampResponse(signature)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// legacy signs text as cosign v2 does.
func (s signing) legacy(t testing.TB, text string) Candidate {
	t.Helper()
	signature := sign(t, s.key, []byte(text))
	return Candidate{
		Kind:    Legacy,
		Source:  "forged",
		Payload: []byte(text),
		Annotations: s.annotations(t, signature, map[string]any{
			"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
				"data": map[string]any{"hash": hashOf([]byte(text))},
				"signature": map[string]any{
					"content":   signature,
					"publicKey": map[string]any{"content": s.verifier(t)},
				},
			},
		}),
	}
}

func (s signing) annotations(t testing.TB, signature []byte, body map[string]any) map[string]string {
	t.Helper()
	a := map[string]string{AnnotationSignature: base64.StdEncoding.EncodeToString(signature)}
	if s.leaf != nil {
		a[annotationCertificate] = string(pemOf(s.leaf))
	}
	for _, c := range s.chain {
		a[annotationChain] += string(pemOf(c))
	}
	if !s.unlogged {
		payload, promise := s.log(t, body)
		a[annotationLogEntry] = encoded(t, map[string]any{"SignedEntryTimestamp": promise, "Payload": payload})
	}
	if !s.unstamped {
		a[annotationTimestamp] = encoded(t, map[string]any{"SignedRFC3161Timestamp": s.token(t, signature)})
	}
	return a
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dsseBody is a log's entry about an envelope.
func (s signing) dsseBody(t testing.TB, statement string, signature []byte) map[string]any {
	return map[string]any{"apiVersion": "0.0.1", "kind": "dsse", "spec": map[string]any{
		"envelopeHash": hashOf([]byte("the envelope")), "payloadHash": hashOf([]byte(statement)),
		"signatures": []any{map[string]any{
			"signature": base64.StdEncoding.EncodeToString(signature),
			"verifier":  s.verifier(t),
		}},
	}}
}

// intotoBody is the older kind of the same.
func (s signing) intotoBody(t testing.TB, statement string, signature []byte) map[string]any {
	return map[string]any{"apiVersion": "0.0.2", "kind": "intoto", "spec": map[string]any{"content": map[string]any{
		"envelope": map[string]any{"payloadType": inToto, "signatures": []any{map[string]any{
			"sig":       base64.StdEncoding.EncodeToString([]byte(base64.StdEncoding.EncodeToString(signature))),
			"publicKey": s.verifier(t),
		}}},
		"hash": hashOf([]byte("the envelope")), "payloadHash": hashOf([]byte(statement)),
	}}}
}

// envelope signs a statement as cosign v2 attests.
func (s signing) envelope(t testing.TB, statement string) Candidate {
	t.Helper()
	signature := sign(t, s.key, pae(inToto, statement))
	text := encoded(t, map[string]any{
		"payloadType": inToto,
		"payload":     []byte(statement),
		"signatures":  []any{map[string]any{"keyid": "", "sig": signature}},
	})
	return Candidate{
		Kind:        Envelope,
		Source:      "forged",
		Payload:     []byte(text),
		Annotations: s.annotations(t, signature, s.dsseBody(t, statement, signature)),
	}
}

// bundle signs a statement into a bundle of version 0.1, with a Rekor v1 entry.
func (s signing) bundle(t testing.TB, statement string, change ...func(*protobundle.Bundle)) Candidate {
	t.Helper()
	signature := sign(t, s.key, pae(inToto, statement))
	m := &protobundle.VerificationMaterial{}
	if s.leaf != nil {
		chain := &protocommon.X509CertificateChain{}
		for _, c := range append([]*x509.Certificate{s.leaf}, s.chain...) {
			chain.Certificates = append(chain.Certificates, &protocommon.X509Certificate{RawBytes: c.Raw})
		}
		m.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: chain}
	} else {
		m.Content = &protobundle.VerificationMaterial_PublicKey{
			PublicKey: &protocommon.PublicKeyIdentifier{Hint: "a hint"},
		}
	}
	if !s.unlogged {
		body := s.dsseBody(t, statement, signature)
		payload, promise := s.log(t, body)
		m.TlogEntries = []*protorekor.TransparencyLogEntry{entryOf(t, payload, promise)}
	}
	if !s.unstamped {
		m.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: s.token(t, signature)}},
		}
	}
	b := &protobundle.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle+json;version=0.1", VerificationMaterial: m,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			PayloadType: inToto,
			Payload:     []byte(statement),
			Signatures:  []*protodsse.Signature{{Sig: signature}},
		}},
	}
	for _, f := range change {
		f(b)
	}
	return bundled(t, b)
}

// entryOf is a log's promise as a bundle holds it.
func entryOf(t testing.TB, p tlog.RekorPayload, promise []byte) *protorekor.TransparencyLogEntry {
	t.Helper()
	body, err := base64.StdEncoding.DecodeString(p.Body.(string))
	if err != nil {
		t.Fatal(err)
	}
	id, err := hex.DecodeString(p.LogID)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Kind, APIVersion any }
	if err := json.Unmarshal(body, &said); err != nil {
		t.Fatal(err)
	}
	kind, _ := said.Kind.(string)
	version, _ := said.APIVersion.(string)
	return &protorekor.TransparencyLogEntry{
		LogIndex:          p.LogIndex,
		LogId:             &protocommon.LogId{KeyId: id},
		IntegratedTime:    p.IntegratedTime,
		KindVersion:       &protorekor.KindVersion{Kind: kind, Version: version},
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: promise},
		CanonicalizedBody: body,
	}
}

// formats are all in which s can sign image, by name.
func (s signing) formats(t testing.TB, image digest.Digest) map[string]Candidate {
	t.Helper()
	return map[string]Candidate{
		"legacy": s.legacy(t, payload(image.String())),
		"bundle": s.bundle(t, statementOf(image.Encoded())),
	}
}

func newPromise(signature []byte) *protorekor.InclusionPromise {
	return &protorekor.InclusionPromise{SignedEntryTimestamp: signature}
}
