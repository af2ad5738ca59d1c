package verify_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify/reason"
)

// TestReasonCodes: a reason's code says what its text says.
func TestReasonCodes(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	const (
		keyA     = policyHead + `authorities: [{key: a.pub}]}]`
		attested = policyHead + `authorities: [{name: a, key: a.pub}], attestations: [{type: slsaprovenance1`
		logged   = policyHead + `authorities: [{key: a.pub, transparencyLog: require, trustRoot: logged}]}]`
		ofAnna   = policyHead + `authorities: [{name: anna, ` +
			`certificate: {rootsFile: corp.pem, subject: a@acme.example}}]}]`
	)
	byA := func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.sign(d, "a")} }
	byB := func(d digest.Digest) []hostile.Layer { return []hostile.Layer{s.sign(d, "b")} }
	ofBen := func(d digest.Digest) []hostile.Layer {
		return []hostile.Layer{s.certified(d, s.corp, named("ben@acme.example"))}
	}
	for name, test := range map[string]struct {
		policy string
		layers func(digest.Digest) []hostile.Layer
		want   []reason.Code
	}{
		"no policy": {
			`[{name: p, images: ["nowhere.example/**"], authorities: [{key: a.pub}]}]`,
			byA,
			[]reason.Code{reason.NoPolicy},
		},
		"denied repository": {policyHead + `static: deny}]`, byA, []reason.Code{reason.StaticDeny}},
		"exemption ended":   {policyHead + `static: allow, expires: 2020-01-01}]`, byA, []reason.Code{reason.Expired}},
		"nothing": {
			keyA,
			func(digest.Digest) []hostile.Layer { return nil },
			[]reason.Code{reason.NoSignature},
		},
		"another image": {
			keyA,
			func(digest.Digest) []hostile.Layer { return byA(digest.FromString("another image")) },
			[]reason.Code{reason.OtherImage},
		},
		"another key":      {keyA, byB, []reason.Code{reason.OtherKey}},
		"a certificate":    {keyA, ofBen, []reason.Code{reason.WrongScheme}},
		"a key":            {ofAnna, byA, []reason.Code{reason.WrongScheme}},
		"another identity": {ofAnna, ofBen, []reason.Code{reason.WrongIdentity}},
		"another authority": {
			ofAnna,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.certified(d, s.local, named("a@acme.example"))}
			},
			[]reason.Code{reason.Certificate},
		},
		"no log entry": {logged, byA, []reason.Code{reason.LogEntry}},
		"no annotation": {
			policyHead + `annotations: {x: y}, authorities: [{key: a.pub}]}]`,
			byA,
			[]reason.Code{reason.Annotation},
		},
		"threshold": {
			policyHead + `threshold: 2, authorities: [{key: a.pub}, {key: b.pub}]}]`,
			byA,
			[]reason.Code{reason.OtherKey, reason.Threshold},
		},
		"one signer for two": {
			policyHead + `threshold: 2, authorities: [{key: a.pub}, {key: "hashivault://a"}]}]`,
			byA,
			[]reason.Code{reason.SignerCounted, reason.Threshold},
		},
		"no attestation": {attested + `}]}]`, byA, []reason.Code{reason.NoAttestation}},
		"another attestation": {
			attested + `, cel: "predicate.x == 1"}]}]`,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.sign(d, "a"), s.attestation(d, "a", slsa1, `{"x": 2}`)}
			},
			[]reason.Code{reason.Attestation},
		},
		"signature of an attestor": {
			policyHead + `authorities: [{key: a.pub, accept: [slsaprovenance1]}]}]`,
			byA,
			[]reason.Code{reason.WrongType},
		},
		"furthest of several": {
			keyA,
			func(d digest.Digest) []hostile.Layer {
				return []hostile.Layer{s.sign(digest.FromString("another image"), "a"), s.sign(d, "b")}
			},
			[]reason.Code{reason.OtherKey},
		},
	} {
		t.Run(name, func(t *testing.T) {
			image := s.image()
			if layers := test.layers(image); len(layers) > 0 {
				s.attach(image, layers...)
			}

			v := s.verdict(s.gate(test.policy), image)

			var got []reason.Code
			for _, r := range v.Reasons {
				got = append(got, r.Code)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v; want %v: %s", got, test.want, v.Message())
			}
		})
	}
}
