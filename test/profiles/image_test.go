package profiles_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/test/hostile"
	"github.com/pullgate/pullgate/test/profiles"
)

// image is an index of one platform, as people push it.
type image struct {
	repository, tag string
	digest          digest.Digest
	index           []byte
	child           hostile.Image
	blobs           map[digest.Digest][]byte // config and layers
}

// push makes an image that is not signed, in a repository that everybody may read.
func (g *gate) push(repository, tag string) image {
	g.t.Helper()
	g.registry.Add(repository, profiles.Public)
	content := g.registry.Content()

	child := content.PushImage(repository, "")
	i := image{
		repository: repository,
		tag:        tag,
		child:      child,
		digest:     content.PushIndex(repository, tag, child.Digest),
		blobs:      map[digest.Digest][]byte{},
	}
	i.index = content.Manifest(repository, i.digest)
	for _, d := range append([]digest.Digest{child.Config}, child.Layers...) {
		i.blobs[d] = content.Blob(repository, d)
	}
	return i
}

// pushSigned makes an image that is signed under its .sig tag.
func (g *gate) pushSigned(repository, tag string) image {
	g.t.Helper()
	i := g.push(repository, tag)
	g.registry.Content().Sign(repository, i.digest, g.key)
	return i
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// bundle is what cosign 3 writes for a signature by key.
func bundle(t *testing.T, of digest.Digest, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	const payloadType = "application/vnd.in-toto+json"
	statement := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],`+
		`"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`, of.Encoded())
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s",
		len(payloadType), payloadType, len(statement), statement))
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}

	b, err := json.Marshal(map[string]any{
		"mediaType":            bundleType,
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "x"}},
		"dsseEnvelope": map[string]any{
			"payload":     []byte(statement),
			"payloadType": payloadType,
			"signatures":  []any{map[string]any{"sig": signature}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (g *gate) bundleOf(i image) hostile.Artifact {
	return hostile.Artifact{
		Type:    bundleType,
		Layers:  []hostile.Layer{{MediaType: bundleType, Body: bundle(g.t, i.digest, g.key)}},
		Subject: i.digest,
	}
}

// attach signs an image by a bundle that the referrers API lists.
func (g *gate) attach(i image) digest.Digest {
	return g.registry.Content().PushArtifact(i.repository, "", g.bundleOf(i))
}

// list signs an image by a bundle that the index under its referrers tag lists, and
// nothing else does.
func (g *gate) list(i image) {
	pusher := hostile.New() // which the registry knows nothing of
	defer pusher.Close()
	pusher.PushRaw(i.repository, "", hostile.IndexType, i.index)
	artifact := g.bundleOf(i)
	d := pusher.PushArtifact(i.repository, "", artifact)

	content := g.registry.Content()
	content.PushBlob(i.repository, artifact.Layers[0].Body)
	content.PushBlob(i.repository, []byte("{}"))
	content.PushRaw(i.repository, "", hostile.ImageType, pusher.Manifest(i.repository, d))
	content.PushList(i.repository, hostile.FallbackTag(i.digest), d)
}

// pull asks for everything of an image, as containerd does.
func (g *gate) pull(i image) {
	g.t.Helper()
	g.head(i)
	g.pullDigest(i)
}

// head checks the answer to HEAD by tag.
func (g *gate) head(i image) {
	g.t.Helper()
	a := g.ask(http.MethodHead, i.repository, "manifests/"+i.tag)
	if a.status != http.StatusOK || a.header.Get("Docker-Content-Digest") != i.digest.String() ||
		a.length != int64(len(i.index)) {
		g.t.Errorf("%s: %d %v", a.what, a.status, a.header)
	}
}

// pullDigest is pull without the tag.
func (g *gate) pullDigest(i image) {
	g.t.Helper()
	g.manifest(i.repository, i.digest.String()).served(i.index)
	g.manifest(i.repository, i.child.Digest.String()).served(i.child.Manifest)
	for d, b := range i.blobs {
		g.ask(http.MethodGet, i.repository, "blobs/"+d.String()).served(b)
	}
}
