package verify_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// TestFalseParents: a state that names false parents admits nothing. Only
// the parent's own bytes say what it lists, and only its own verdict, made
// today, says whether that counts.
func TestFalseParents(t *testing.T) {
	t.Parallel()
	s := newSigners(t)
	repo := policy.Repository{Host: "reg.example", Path: signersRepo}

	// Evil is an image that no policy admits. It stands beside two that one
	// does, of which the image has evil's manifest as a layer.
	evil, listed := s.reg.PushImage(signersRepo, ""), s.reg.PushImage(signersRepo, "")
	image := s.reg.PushImage(signersRepo, "", evil.Manifest)
	index := s.reg.PushIndex(signersRepo, "", listed.Digest)
	refused := s.reg.PushIndex(signersRepo, "", evil.Digest)
	policies := fmt.Sprintf(`[{name: some, digests: [%q, %q], static: allow}]`, image.Digest, index)

	manifest := func(d digest.Digest) oci.Manifest {
		return oci.Manifest{Bytes: s.reg.Manifest(signersRepo, d), MediaType: hostile.IndexType, Digest: d}
	}
	ofImage := oci.Manifest{Bytes: image.Manifest, MediaType: hostile.ImageType, Digest: image.Digest}
	asManifests := func(list ...digest.Digest) oci.Structure { return oci.Structure{Manifests: list} }
	asBlobs := func(list ...digest.Digest) oci.Structure { return oci.Structure{Blobs: list} }
	forged := manifest(refused)
	forged.Digest = index
	nameless := manifest(refused)
	nameless.Digest = "../" + signersRepo
	gone := manifest(refused)
	gone.Bytes, gone.Digest = nil, digest.FromString("gone")

	for name, test := range map[string]struct {
		parent oci.Manifest
		parts  oci.Structure
		asked  digest.Digest
		blob   bool // asked for as a blob
		want   verify.Outcome
	}{
		"the truth": {
			parent: manifest(index),
			parts:  asManifests(listed.Digest),
			asked:  listed.Digest,
			want:   verify.Allowed,
		},
		"the truth, of a blob": {
			parent: ofImage,
			parts:  asBlobs(image.Config),
			asked:  image.Config,
			blob:   true,
			want:   verify.Allowed,
		},
		"a manifest that the index does not list": {
			parent: manifest(index),
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
		},
		"the same, asked for as a blob": {
			parent: manifest(index),
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
			blob:   true,
		},
		"a blob that the image does not list": {
			parent: ofImage,
			parts:  asBlobs(evil.Layers[0]),
			asked:  evil.Layers[0],
			blob:   true,
		},
		"a layer as a manifest": {
			parent: ofImage,
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
		},
		"a manifest as a layer": {
			parent: manifest(index),
			parts:  asBlobs(listed.Digest),
			asked:  listed.Digest,
			blob:   true,
		},
		"a parent that is refused": {
			parent: manifest(refused),
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
		},
		"bytes under another's digest": {
			parent: forged,
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
		},
		"a parent without a digest": {
			parent: nameless,
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
		},
		"a parent that does not exist": {
			parent: gone,
			parts:  asManifests(evil.Digest),
			asked:  evil.Digest,
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := s.gate(policies)
			_, err := gate.Config().Store.Learn(t.Context(), facts.Fact{
				Repository: repo,
				Manifest:   test.parent,
				Parts:      test.parts,
			})
			s.check(err)

			var v verify.Verdict
			if test.blob {
				_, v, err = gate.Blob(t.Context(), repo, test.asked, policy.Client{})
			} else {
				_, v, err = gate.Manifest(t.Context(), repo.At(test.asked), policy.Client{})
			}
			if err != nil || v.Outcome != test.want {
				t.Errorf("%s, %v; want %s: %s", v.Outcome, err, test.want, v.Message())
			}
		})
	}
}
