package signing

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/pullgate/pullgate/verify/sigs"
)

// rig is a registry with an index of two platforms, and a key to sign it with.
type rig struct {
	key   *ecdsa.PrivateKey
	image string
	repo  name.Repository
	index v1.Hash
}

func newRig(t *testing.T) *rig {
	t.Helper()
	server := httptest.NewServer(
		registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)),
	)
	t.Cleanup(server.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(64, 1, 2)
	if err != nil {
		t.Fatal(err)
	}

	r := &rig{key: key, image: strings.TrimPrefix(server.URL, "http://") + "/acme/app:v1"}
	tag, err := name.NewTag(r.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}
	r.repo = tag.Context()
	if r.index, err = index.Digest(); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) pusher(t *testing.T, format Format) *Pusher {
	t.Helper()
	signer, err := NewKeySigner(r.key)
	if err != nil {
		t.Fatal(err)
	}
	return &Pusher{Signer: signer, Format: format, Annotations: map[string]string{"env": "prod"}}
}

// verify fails if raw is no signature of payload by the rig's key.
func (r *rig) verify(t *testing.T, payload, raw []byte) {
	t.Helper()
	sum := sha256.Sum256(payload)
	if !ecdsa.VerifyASN1(&r.key.PublicKey, sum[:], raw) {
		t.Errorf("the signature of %q is another's", payload)
	}
}

// layer returns the bytes and the annotations of the nth layer of an image.
func layer(t *testing.T, ref name.Reference, n int) ([]byte, map[string]string) {
	t.Helper()
	img, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	l, err := remote.Layer(ref.Context().Digest(m.Layers[n].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	content, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	b, err := io.ReadAll(content)
	if err != nil {
		t.Fatal(err)
	}
	return b, m.Layers[n].Annotations
}

// TestBundle: a bundle stands among the referrers of its image, and its envelope is
// signed by the key.
func TestBundle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if _, err := r.pusher(t, Bundle).SignImage(t.Context(), r.image); err != nil {
		t.Fatal(err)
	}
	list, err := remote.Referrers(r.repo.Digest(r.index.String()))
	if err != nil {
		t.Fatal(err)
	}
	referrers, err := list.IndexManifest()
	if err != nil || len(referrers.Manifests) != 1 {
		t.Fatalf("%+v, %v", referrers, err)
	}

	content, _ := layer(t, r.repo.Digest(referrers.Manifests[0].Digest.String()), 0)
	var bundle struct {
		Envelope struct {
			Payload    []byte `json:"payload"`
			Type       string `json:"payloadType"`
			Signatures []struct {
				Sig []byte `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(content, &bundle); err != nil {
		t.Fatal(err)
	}
	envelope := bundle.Envelope
	r.verify(t, dsse.PAE(envelope.Type, envelope.Payload), envelope.Signatures[0].Sig)
	for _, want := range []string{r.index.Hex, `"env":"prod"`} {
		if !strings.Contains(string(envelope.Payload), want) {
			t.Errorf("%q is not signed: %s", want, envelope.Payload)
		}
	}
}

// TestLegacy: a second signature stands beside the first under the .sig tag, and both
// are signed by the key.
func TestLegacy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 2 {
		if _, err := r.pusher(t, Legacy).SignImage(t.Context(), r.image); err != nil {
			t.Fatal(err)
		}
	}

	for n := range 2 {
		payload, annotations := layer(t, legacyTag(r.repo, r.index), n)
		raw, err := base64.StdEncoding.DecodeString(annotations[sigs.AnnotationSignature])
		if err != nil {
			t.Fatal(err)
		}
		r.verify(t, payload, raw)
		for _, want := range []string{r.index.String(), `"env":"prod"`} {
			if !strings.Contains(string(payload), want) {
				t.Errorf("%q is not signed: %s", want, payload)
			}
		}
	}
}

// TestRecursive: each platform is signed before the index.
func TestRecursive(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.pusher(t, Bundle)
	p.Recursive = true
	signed, err := p.SignImage(t.Context(), r.image)
	if err != nil {
		t.Fatal(err)
	}
	if len(signed) != 3 || signed[2].DigestStr() != r.index.String() {
		t.Errorf("%v", signed)
	}
}

// TestStopped: a signature that was not pushed is not told of.
func TestStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.pusher(t, Legacy)
	p.Recursive = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.Signer = stopping{p.Signer, cancel}
	if signed, err := p.SignImage(ctx, r.image); err == nil || len(signed) != 0 {
		t.Errorf("%v, %v", signed, err)
	}
}

// stopping ends the context with the first signature.
type stopping struct {
	Signer
	cancel context.CancelFunc
}

func (s stopping) Sign(ctx context.Context, payload []byte) (Signature, error) {
	defer s.cancel()
	return s.Signer.Sign(ctx, payload)
}
