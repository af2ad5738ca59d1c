package verify_test

import (
	"testing"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/sigs"
)

// under is gate with other roots and keys over the same memory.
func (s *signers) under(gate *verify.Gate, trust sigs.Trust) *verify.Gate {
	s.t.Helper()
	config := gate.Config
	config.Trust = trust
	g, err := verify.New(config)
	s.check(err)
	return g
}

// TestAKeyThatMovesIsAskedAnew: a key counts as the reference that a policy
// names, not as another one that has the same key today.
func TestAKeyThatMovesIsAskedAnew(t *testing.T) {
	s := newSigners(t)
	key := s.trust.Keys["hashivault://a"]
	gate := s.gate(`[{name: p, images: ["reg.example/**"], authorities: [{name: release, key: "hashivault://a", required: true}, {name: ci, key: "hashivault://b"}]}]`)
	image := s.image()
	s.attach(image, s.sign(image, "a"))
	if v := s.verdict(gate, image); !v.Admitted() {
		t.Fatal(v.Message())
	}
	moved := s.under(gate, sigs.Trust{Keys: map[string]policy.Key{"hashivault://b": key}})
	if _, v, err := moved.Manifest(t.Context(), policy.Repository{Host: "reg.example", Path: signersRepo}, image.String(), policy.Client{}); err == nil {
		t.Errorf("admitted by what was remembered under another key: %+v", v)
	}
}
