package sigs

import (
	"crypto/elliptic"
	"encoding/hex"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// BenchmarkKeyless compares a cold keyless verdict, from bytes to signer, with
// sigstore-go's own verification of the same bundle, from bytes too.
func BenchmarkKeyless(b *testing.B) {
	k := newKeyless(b)
	log := certificateLog{newECDSA(b, elliptic.P256())}
	certified := rootOf("local", k.stack, k.fulcio, func(m *material) { m.logs = log.trusted(b) })
	key := newECDSA(b, elliptic.P256())
	signed := signing{
		stack: k.stack,
		key:   key,
		leaf:  log.leaf(b, k.fulcio, key.Public(), email(somebody), by(someIssuer)),
	}
	statement := statementOf(k.image.Encoded())
	for _, test := range []struct {
		name      string
		root      *Root
		candidate Candidate
		legacy    Candidate
	}{
		{"SCT, Rekor v1, TSA", certified, signed.bundle(b, statement), signed.legacy(b, payload(k.image.String()))},
		{"Rekor v2, TSA", k.stack.root("local"), k.bundleBy(b, somebody, someIssuer, statement), Candidate{}},
	} {
		a := trusting(b, []*Root{test.root})
		ours := func(c Candidate) func(b *testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := check(a, c, k.image); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run(test.name+"/ours", ours(test.candidate))
		b.Run(test.name+"/sigstore-go", func(b *testing.B) {
			v := a.roots[0].verifier
			who, err := verify.NewShortCertificateIdentity(someIssuer, "", somebody, "")
			if err != nil {
				b.Fatal(err)
			}
			sum := digestBytes(b, k.image)
			b.ReportAllocs()
			for b.Loop() {
				pb := &bundle.Bundle{}
				if err := pb.UnmarshalJSON(test.candidate.Payload); err != nil {
					b.Fatal(err)
				}
				if _, err := v.Verify(
					pb,
					verify.NewPolicy(verify.WithArtifactDigest("sha256", sum), verify.WithCertificateIdentity(who)),
				); err != nil {
					b.Fatal(err)
				}
			}
		})
		if test.legacy.Kind != 0 {
			b.Run(test.name+"/ours, legacy", ours(test.legacy))
		}
	}
}

func digestBytes(t testing.TB, d digest.Digest) []byte {
	t.Helper()
	sum, err := hex.DecodeString(d.Encoded())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
