package verify

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	ociImage = "application/vnd.oci.image.manifest.v1+json"
	ociIndex = "application/vnd.oci.image.index.v1+json"
)

var poisonedRepo = policy.Repository{Host: "reg.example", Path: "acme/app"}

// The state holds facts, never permissions: a poisoned one admits nothing, not
// even what it calls a part of an admitted manifest.
func TestPoisonedParents(t *testing.T) {
	listed, other := imageOf("listed"), imageOf("other")
	index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":2}]}`,
		ociIndex, ociImage, digest.FromBytes(listed))
	image := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":2},"layers":[]}`,
		ociImage, digest.FromBytes(listed))

	for name, truth := range map[string]fact{
		"manifest of an index": {index, facts.PartManifest, listed},
		"blob of an image":     {image, facts.PartBlob, listed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := truth.outcome(t); got != Allowed {
				t.Errorf("%s by what its parent lists, want %s", got, Allowed)
			}
		})
	}

	for name, lie := range map[string]fact{
		"manifest not listed":     {index, facts.PartManifest, other},
		"blob not listed":         {image, facts.PartBlob, other},
		"index lists no blob":     {index, facts.PartBlob, listed},
		"image lists no manifest": {image, facts.PartManifest, listed},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lie.outcome(t); got != Denied {
				t.Errorf("%s by what its parent does not list, want %s", got, Denied)
			}
		})
	}
}

// fact is what a state says: parent lists part, as a manifest or as a blob.
type fact struct {
	parent []byte
	kind   facts.PartKind
	part   []byte
}

// outcome is what a gate with such a state says of the part; the policy admits
// the parent.
func (f fact) outcome(t *testing.T) Outcome {
	t.Helper()
	parent, part := digest.FromBytes(f.parent), digest.FromBytes(f.part)
	gate := poisonedGate(t, fmt.Sprintf(`[{name: one, digests: [%q], static: allow}]`, parent))
	poison(t, gate, f.part, ociImage, oci.Structure{})

	var v Verdict
	var err error
	if f.kind == facts.PartBlob {
		poison(t, gate, f.parent, "", oci.Structure{Blobs: []digest.Digest{part}})
		_, v, err = gate.Blob(t.Context(), poisonedRepo, part, policy.Client{})
	} else {
		poison(t, gate, f.parent, "", oci.Structure{Manifests: []digest.Digest{part}})
		_, v, err = gate.Manifest(t.Context(), poisonedRepo.At(part), policy.Client{})
	}

	if err != nil {
		t.Fatal(err)
	}
	return v.Outcome
}

// Clients act on a manifest's media type: it comes from the bytes, which have a
// digest, and not from the state.
func TestPoisonedMediaType(t *testing.T) {
	image := imageOf("config")
	d := digest.FromBytes(image)

	for name, mediaType := range map[string]string{
		"right":       ociImage,
		"web page":    "text/html",
		"none":        "",
		"line breaks": "text/html\r\n\r\n<script>",
	} {
		t.Run(name, func(t *testing.T) {
			gate := poisonedGate(t, `[{name: all, images: ["reg.example/**"], static: allow}]`)
			poison(t, gate, image, mediaType, oci.Structure{})

			m, v, err := gate.Manifest(t.Context(), poisonedRepo.At(d), policy.Client{})

			if err != nil || !v.Admitted() || m.MediaType != ociImage {
				t.Errorf("%s, %v, with the media type %q; want %q", v.Outcome, err, m.MediaType, ociImage)
			}
		})
	}
}

// imageOf is an image's manifest with a config of these bytes.
func imageOf(config string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":%d},"layers":[]}`,
		ociImage, digest.FromString(config), len(config))
}

// poison writes a manifest into the gate's state with facts that need not be
// true.
func poison(t *testing.T, gate *Gate, manifest []byte, mediaType string, parts oci.Structure) {
	t.Helper()
	_, err := gate.config.Store.Learn(t.Context(), facts.Fact{
		Repository: poisonedRepo,
		Manifest: oci.Manifest{
			Bytes:     manifest,
			MediaType: mediaType,
			Digest:    digest.FromBytes(manifest),
		},
		Parts: parts,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// poisonedGate has no upstream: all that it knows comes from its state.
func poisonedGate(t *testing.T, policies string) *Gate {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(policies), &doc); err != nil {
		t.Fatal(err)
	}
	set, problems := policy.Load(policy.Input{ConfigFile: "test", Inline: doc.Content[0]})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	store, err := facts.OpenBolt(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	cache, err := NewCache(100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)

	gate, err := New(Config{
		Policies: set,
		Store:    store,
		Cache:    cache,
		Registry: func(string) (Registry, bool) { return nil, false },
		TTL:      time.Hour,
		DenyTTL:  time.Minute,
		Limits: Limits{
			ManifestBytes:    1 << 20,
			Descriptors:      100,
			PayloadBytes:     1 << 20,
			VerdictBytes:     4 << 20,
			Signatures:       8,
			VerdictsInFlight: 8,
			VerifyTimeout:    time.Minute,
			ClientMisses:     1000,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return gate
}
