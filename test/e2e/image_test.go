package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"io"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pushIndex puts a two-platform image with fresh layers under ref and returns
// its digest.
func pushIndex(t *testing.T, ref string, layerBytes int) string {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image(t, arch, layerBytes),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func image(t *testing.T, arch string, layerBytes int) v1.Image {
	t.Helper()
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	content := make([]byte, layerBytes)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteHeader(&tar.Header{Name: "content", Mode: 0o644, Size: int64(layerBytes)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer),
	)
	if err != nil {
		t.Fatal(err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(base, &v1.ConfigFile{
		OS:           "linux",
		Architecture: arch,
		Config:       v1.Config{Cmd: []string{"/content"}},
	})
	if err == nil {
		img, err = mutate.AppendLayers(img, layer)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// keyPair makes a cosign key pair and returns the file names.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	need(t, "cosign")
	prefix := filepath.Join(t.TempDir(), "cosign")
	mustRun(t, "cosign", "generate-key-pair", "--output-key-prefix", prefix)
	return prefix + ".key", prefix + ".pub"
}

// signers are the ways real cosign signs with a key, none of which needs the internet.
var signers = map[string]func(t *testing.T, key, ref string, extra ...string){
	"v3 bundle": func(t *testing.T, key, ref string, extra ...string) {
		t.Helper()
		need(t, "cosign")
		config := filepath.Join(t.TempDir(), "signing-config.json")
		mustRun(
			t,
			"cosign",
			"signing-config",
			"create",
			"--no-default-fulcio",
			"--no-default-oidc",
			"--no-default-rekor",
			"--no-default-tsa",
			"--out",
			config,
		)
		mustRun(t, "cosign", append(append([]string{
			"sign",
			"--yes",
			"--key",
			key,
			"--signing-config",
			config,
		}, extra...), ref)...)
	},
	"v2 legacy": func(t *testing.T, key, ref string, extra ...string) {
		t.Helper()
		need(t, "cosign-v2")
		mustRun(t, "cosign-v2", append(append([]string{
			"sign",
			"--yes",
			"--tlog-upload=false",
			"--key",
			key,
		}, extra...), ref)...)
	},
	"v2 legacy as referrer": func(t *testing.T, key, ref string, extra ...string) {
		t.Helper()
		need(t, "cosign-v2")
		t.Setenv("COSIGN_EXPERIMENTAL", "1")
		mustRun(t, "cosign-v2", append(append([]string{
			"sign",
			"--yes",
			"--tlog-upload=false",
			"--key",
			key,
			"--registry-referrers-mode=oci-1-1",
		}, extra...), ref)...)
	},
}
