package sigs

import (
	"testing"

	"github.com/opencontainers/go-digest"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/testing/data"

	"github.com/pullgate/pullgate/policy"
)

// TestPublishedBundles puts the bundles that sigstore-go publishes for its own
// tests through this verification. Two of them sign bytes and not a statement
// (sign-blob); they are refused on purpose, whatever their signatures.
func TestPublishedBundles(t *testing.T) {
	t.Parallel()
	root := &Root{name: "local", fingerprint: "local", material: data.TrustedRoot(t, "public-good.json")}
	const (
		provenance = "sigstore.js@2.0.0-provenance.sigstore.json"
		sigstoreJS = "sha512:46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1" +
			"e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c"
		earlier = "sha512:bbfd372fc9beeb777fe35d05bb10c0c70a9733d366a75fed7dd18866c7391de3" +
			"ee7e88ba74dd47abf3e15c845e547fcf0e5c3da80854c751554224d3a6d4e55f"
		actions      = "https://token.actions.githubusercontent.com"
		slsa02       = "https://slsa.dev/provenance/v0.2"
		ofSigstoreJS = `https://github\.com/sigstore/sigstore-js/\.github/workflows/release\.yml@refs/heads/main`
	)
	trust := func(subject string, change ...func(*policy.Authority)) *Authority {
		return trusting(t, []*Root{root}, append([]func(*policy.Authority){func(p *policy.Authority) {
			p.Accept = []string{slsa, slsa02}
			if subject != "" {
				p.Identities = []policy.Identity{{Issuer: policy.Exactly(actions), Subject: pattern(t, subject)}}
			}
		}}, change...)...)
	}
	person := func(p *policy.Authority) {
		p.Identities = []policy.Identity{{
			Issuer:  policy.Exactly("https://github.com/login/oauth"),
			Subject: pattern(t, `[a-z]+@[a-z]+\.com`),
		}}
	}
	read := func(name string, change ...func(*protobundle.Bundle)) Candidate {
		b := data.Bundle(t, name).Bundle
		for _, f := range change {
			f(b)
		}
		return bundled(t, b)
	}
	for _, test := range []struct {
		name   string
		a      *Authority
		c      Candidate
		image  digest.Digest
		reason string // empty: allowed
	}{
		{"provenance of sigstore.js", trust(ofSigstoreJS), read(provenance), sigstoreJS, ""},
		{"an earlier one, by a person", trust("", person), read("dsse.sigstore.json"), earlier, ""},
		{"of something else", trust(ofSigstoreJS), read(provenance), earlier, "not about this image"},
		{
			"by another workflow",
			trust(`https://github\.com/sigstore/sigstore-js/\.github/workflows/release\.yml@refs/heads/mai`),
			read(provenance),
			sigstoreJS,
			"names another identity",
		},
		{
			"where only signatures count",
			trust(ofSigstoreJS, func(p *policy.Authority) { p.Accept = []string{policy.SignaturePredicate} }),
			read(provenance),
			sigstoreJS,
			"is an attestation",
		},
		{
			"with a timestamp demanded",
			trust(ofSigstoreJS, func(p *policy.Authority) { p.Timestamp = true }),
			read(provenance),
			sigstoreJS,
			"no trusted timestamp",
		},
		{
			"without its log entry",
			trust(ofSigstoreJS),
			read(provenance, func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil }),
			sigstoreJS,
			"no transparency log entry",
		},
		{"with another's log entry", trust(ofSigstoreJS), read(provenance, func(b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = data.Bundle(t, "dsse.sigstore.json").VerificationMaterial.TlogEntries
		}), sigstoreJS, "no transparency log entry"},
		{
			"at another time",
			trust(ofSigstoreJS),
			read(provenance, func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime++ }),
			sigstoreJS,
			"no transparency log entry",
		},
		{"two signatures", trust("", person), read("dsse-2sigs.sigstore.json"), earlier, "exactly one signature"},
		{
			"bytes, with an other name",
			trust(`.*`),
			read("othername.sigstore.json"),
			earlier,
			"signs bytes, not an image",
		},
		{
			"bytes, with a key",
			trust(`.*`),
			read("public-key-validity.sigstore.json"),
			earlier,
			"signs bytes, not an image",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.reason != "" {
				denied(t, test.a, test.c, test.image, test.reason)
				return
			}
			if who := allowed(
				t,
				test.a,
				test.c,
				test.image,
			); who.Subject == "" || who.Issuer == "" ||
				who.PredicateType == policy.SignaturePredicate {
				t.Errorf("signed by %+v", who)
			}
		})
	}
}
