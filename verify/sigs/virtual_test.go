package sigs

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/pullgate/pullgate/policy"
)

// stack is a whole Sigstore in this process: a certificate authority, a log and
// a timestamp authority (sigstore-go's VirtualSigstore; it has no certificate log).
type stack struct{ *ca.VirtualSigstore }

func newStack(t testing.TB) stack {
	t.Helper()
	vs, err := ca.NewVirtualSigstore()
	if err != nil {
		t.Fatal(err)
	}
	return stack{vs}
}

// root is the stack as a trust root of this name.
func (s stack) root(name string) *Root {
	return &Root{name: name, fingerprint: name, material: uncertified{s.VirtualSigstore}}
}

// uncertified is the stack without its certificate log, which signs nothing.
type uncertified struct{ root.TrustedMaterial }

func (uncertified) CTLogs() map[string]*root.TransparencyLog { return nil }

// legacyBy signs image as cosign v2 does: everything in annotations.
func (s stack) legacyBy(t testing.TB, subject, issuer string, image digest.Digest) Candidate {
	t.Helper()
	text := payload(image.String())
	entity, err := s.Sign(subject, issuer, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return Candidate{Kind: Legacy, Source: "virtual", Payload: []byte(text), Annotations: s.annotations(t, entity)}
}

// annotations are the evidence of a signature as cosign v2 keeps it.
func (s stack) annotations(t testing.TB, e *ca.TestEntity) map[string]string {
	t.Helper()
	signature, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	content, err := e.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := e.Timestamps()
	if err != nil {
		t.Fatal(err)
	}
	entry := entries[0].TransparencyLogEntry()
	logID, err := s.RekorLogID()
	if err != nil {
		t.Fatal(err)
	}
	signed := tlog.RekorPayload{
		Body:           base64.StdEncoding.EncodeToString(entry.GetCanonicalizedBody()),
		IntegratedTime: entry.GetIntegratedTime(),
		LogIndex:       entry.GetLogIndex(),
		LogID:          logID,
	}
	promise, err := s.RekorSignPayload(signed)
	if err != nil {
		t.Fatal(err)
	}
	logged, err := json.Marshal(map[string]any{"SignedEntryTimestamp": promise, "Payload": signed})
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := json.Marshal(map[string]any{"SignedRFC3161Timestamp": stamps[0]})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		AnnotationSignature: base64.StdEncoding.EncodeToString(signature.Signature()),
		annotationCertificate: string(pem.EncodeToMemory(&pem.Block{
			Type:  "CERTIFICATE",
			Bytes: content.Certificate().Raw,
		})),
		annotationLogEntry: string(logged), annotationTimestamp: string(stamp),
	}
}

// bundleBy signs a statement as cosign v3 does, logged in Rekor v2.
func (s stack) bundleBy(t testing.TB, subject, issuer, statement string) Candidate {
	t.Helper()
	entity, err := s.AttestHashedRekordV2(subject, issuer, []byte(statement))
	if err != nil {
		t.Fatal(err)
	}
	return bundled(t, s.proto(t, entity))
}

func bundled(t testing.TB, pb *protobundle.Bundle) Candidate {
	t.Helper()
	text, err := protojson.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return Candidate{Kind: Bundle, Source: "virtual", Payload: text}
}

func (s stack) proto(t testing.TB, e verify.SignedEntity) *protobundle.Bundle {
	t.Helper()
	signature, err := e.SignatureContent()
	if err != nil {
		t.Fatal(err)
	}
	content, err := e.VerificationContent()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := e.TlogEntries()
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := e.Timestamps()
	if err != nil {
		t.Fatal(err)
	}
	envelope := signature.EnvelopeContent().RawEnvelope()
	statement, err := envelope.DecodeB64Payload()
	if err != nil {
		t.Fatal(err)
	}
	entry := entries[0].TransparencyLogEntry()
	if entry.KindVersion == nil {
		entry.KindVersion = &protorekor.KindVersion{Kind: "hashedrekord", Version: "0.0.2"}
	}
	return &protobundle.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{
				Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw},
			},
			TlogEntries: []*protorekor.TransparencyLogEntry{entry},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}},
			},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			PayloadType: envelope.PayloadType,
			Payload:     statement,
			Signatures:  []*protodsse.Signature{{Sig: signature.Signature()}},
		}},
	}
}

// identified is an authority that trusts one identity of the stack.
func identified(t testing.TB, s stack, change ...func(*policy.Authority)) *Authority {
	t.Helper()
	p := policy.Authority{
		Name: "ci", TrustRoots: []string{"local"}, Accept: []string{policy.SignaturePredicate},
		Identities: []policy.Identity{{Issuer: policy.Exactly(someIssuer), Subject: policy.Exactly(somebody)}},
	}
	for _, c := range change {
		c(&p)
	}
	a, err := NewAuthority(p, nil, Trust{Roots: map[string]*Root{"local": s.root("local")}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const (
	someIssuer = "https://issuer.example"
	somebody   = "dev@acme.example"
)

func TestKeylessSignatures(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	image := digest.FromString("an image")
	a := identified(t, s)
	for name, c := range map[string]Candidate{
		"legacy": s.legacyBy(t, somebody, someIssuer, image),
		"bundle": s.bundleBy(t, somebody, someIssuer, statementOf(image.Encoded())),
	} {
		who := allowed(t, a, c, image)
		if who.Subject != somebody || who.Issuer != someIssuer || who.KeyID != "" || !who.Until.IsZero() {
			t.Errorf("%s: signed by %+v", name, who)
		}
		denied(t, a, c, digest.FromString("another"), "image")
		stranger := newStack(t)
		denied(t, identified(t, stranger), c, image, "no transparency log entry proves it")
	}
	for name, c := range map[string]Candidate{
		"legacy": s.legacyBy(t, "eve@acme.example", someIssuer, image),
		"bundle": s.bundleBy(t, "eve@acme.example", someIssuer, statementOf(image.Encoded())),
	} {
		t.Log(name)
		denied(t, a, c, image, "names another identity, eve@acme.example, by "+someIssuer)
	}
	denied(t, a, s.bundleBy(t, somebody, "https://evil.example", statementOf(image.Encoded())), image, "issuer is not")
	denied(
		t,
		a,
		s.bundleBy(
			t,
			somebody,
			someIssuer,
			strings.Replace(statementOf(image.Encoded()), signPredicate, "https://slsa.dev/provenance/v1", 1),
		),
		image,
		"is an attestation",
	)
}
