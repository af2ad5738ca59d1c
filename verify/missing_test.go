package verify_test

import (
	"strings"
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/sigs"
)

// under is gate with other roots and keys over the same memory.
func (s *signers) under(gate *verify.Gate, trust sigs.Trust) *verify.Gate {
	s.t.Helper()
	config := gate.Config()
	config.Trust = trust
	g, err := verify.New(config)
	s.check(err)
	return g
}

// TestMovedKey: a key counts as the reference that a policy
// names, not as another one that has the same key today.
func TestMovedKey(t *testing.T) {
	s := newSigners(t)
	key := s.trust.Keys["hashivault://a"]
	gate := s.gate(
		`[{name: p, images: ["reg.example/**"], authorities: [{name: release, key: "hashivault://a", required: ` +
			`true}, {name: ci, key: "hashivault://b"}]}]`,
	)
	image := s.image()
	s.attach(image, s.sign(image, "a"))
	if v := s.verdict(gate, image); !v.Admitted() {
		t.Fatal(v.Message())
	}
	moved := s.under(gate, sigs.Trust{Keys: map[string]policy.Key{"hashivault://b": key}})
	repo := policy.Repository{Host: "reg.example", Path: signersRepo}
	if _, v, err := moved.Manifest(t.Context(), repo.At(image), policy.Client{}); err == nil {
		t.Errorf("admitted by what was remembered under another key: %+v", v)
	}
}

// TestMissingTrust: a root or a key that is not
// loaded makes a verdict open only where it could have admitted the image.
func TestMissingTrust(t *testing.T) {
	s := newSigners(t)
	const person, stranger = "https://acme.example/a", "https://evil.example/b"
	const keyless = `keyless: {trustRoots: [local], identities: [{issuer: "https://i.example", subject: ` +
		person + `}]}`
	by := func(subject string) func(d hostile.Image) []hostile.Layer {
		return func(d hostile.Image) []hostile.Layer {
			return []hostile.Layer{
				s.stamped(s.certified(d.Digest, s.local, identity(subject, map[int]string{8: "https://i.example"}))),
			}
		}
	}
	key := func(name string) func(d hostile.Image) []hostile.Layer {
		return func(d hostile.Image) []hostile.Layer { return []hostile.Layer{s.sign(d.Digest, name)} }
	}
	attested := func(name string) func(d hostile.Image) []hostile.Layer {
		return func(d hostile.Image) []hostile.Layer {
			return []hostile.Layer{s.sign(d.Digest, "a"), s.attestation(d.Digest, name, slsa1, `{}`)}
		}
	}
	nothing := func(hostile.Image) []hostile.Layer { return nil }
	const open = "is not loaded"
	for name, test := range map[string]struct {
		policy string
		layers func(hostile.Image) []hostile.Layer
		want   string // of the denial; open: could not tell
	}{
		"unsigned": {`authorities: [{` + keyless + `}]`, nothing, "no signature found"},
		"unsigned, and a key": {
			`authorities: [{` + keyless + `}, {key: a.pub}]`,
			nothing,
			"no signature found",
		},
		"by the person":            {`authorities: [{` + keyless + `}]`, by(person), open},
		"by another person":        {`authorities: [{` + keyless + `}]`, by(stranger), "names another identity"},
		"by a key":                 {`authorities: [{` + keyless + `}]`, key("a"), "was made with a key"},
		"by some key, one missing": {`authorities: [{key: "hashivault://b"}]`, key("c"), open},
		"by a person, a key missing": {
			`authorities: [{key: "hashivault://b"}]`,
			by(person),
			open,
		}, // a legacy signature with a certificate counts by its key, too
		"a quorum within reach": {
			`threshold: 2, authorities: [{` + keyless + `}, {key: a.pub}]`,
			func(d hostile.Image) []hostile.Layer { return append(by(person)(d), key("a")(d)...) },
			open,
		},
		"a quorum out of reach": {
			`threshold: 2, authorities: [{` + keyless + `}, {key: a.pub}]`,
			by(person),
			"1 signature found",
		},
		"one required that is not": {
			`authorities: [{` + keyless + `}, {key: a.pub, required: true}]`,
			by(person),
			"(required)",
		},
		"two that share their signer": {
			`threshold: 3, authorities: [{` + keyless + `}, {name: x, key: a.pub}, {name: y, key: b.pub}]`,
			func(d hostile.Image) []hostile.Layer { return append(by(person)(d), key("a")(d)...) },
			"1 of 3",
		},
		"an attestation that may be": {
			`authorities: [{name: k, key: a.pub}, {name: v, key: "hashivault://b"}], attestations: [{type: ` +
				`slsaprovenance1, authorities: [v]}]`,
			attested("c"),
			open,
		},
		"an attestation that cannot": {
			`authorities: [{name: k, key: a.pub}, {name: v, key: "hashivault://b"}], attestations: [{type: ` +
				`slsaprovenance1, authorities: [k]}]`,
			attested("c"),
			"no attestation of this type by k",
		},
		"evidence that nobody can see": {
			`authorities: [{key: a.pub, timestamp: require, trustRoot: local}]`,
			func(d hostile.Image) []hostile.Layer { return []hostile.Layer{s.stamped(s.sign(d.Digest, "a"))} },
			open,
		},
		"evidence for another key": {
			`authorities: [{key: a.pub, timestamp: require, trustRoot: local}]`,
			func(d hostile.Image) []hostile.Layer { return []hostile.Layer{s.stamped(s.sign(d.Digest, "c"))} },
			"made by another key",
		},
		"a PKI without its timestamps": {
			`authorities: [{certificate: {rootsFile: corp.pem, subject: a@acme.example, time: timestamp}, ` +
				`trustRoot: local}]`,
			func(d hostile.Image) []hostile.Layer {
				return []hostile.Layer{s.stamped(s.certified(d.Digest, s.corp, named("a@acme.example")))}
			},
			open,
		},
		"a PKI, and another's name": {
			`authorities: [{certificate: {rootsFile: corp.pem, subject: a@acme.example, time: timestamp}, ` +
				`trustRoot: local}]`,
			func(d hostile.Image) []hostile.Layer {
				return []hostile.Layer{s.stamped(s.certified(d.Digest, s.corp, named("b@evil.example")))}
			},
			"its certificate is for",
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := s.under(s.gate(policyHead+test.policy+`}]`), sigs.Trust{})
			image := s.reg.PushImage(signersRepo, "")
			for _, l := range test.layers(image) {
				s.attach(image.Digest, l)
			}
			repo := policy.Repository{Host: "reg.example", Path: signersRepo}
			_, v, err := gate.Manifest(t.Context(), repo.At(image.Digest), policy.Client{})
			switch {
			case test.want == open && (err == nil || !strings.Contains(err.Error(), open)):
				t.Errorf("told without what could admit it: %s, %v", v.Message(), err)
			case test.want != open && (err != nil || v.Admitted() || !strings.Contains(v.Message(), test.want)):
				t.Errorf("%s, %v; want a denial: %s", v.Message(), err, test.want)
			}
		})
	}
}
