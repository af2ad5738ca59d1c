package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/bcrypt"
)

// TestArtifacts: whatever is pulled is judged the same way, images or not.
func TestArtifacts(t *testing.T) {
	need(t, "cosign")
	registry := startOlareg(t)
	key, public := keyPair(t)
	g := startGate(t, registry, public)
	for what, media := range map[string][2]string{
		"helm": {"application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"},
		"wasm": {"application/vnd.wasm.config.v0+json", "application/wasm"},
		"sbom": {"application/vnd.oci.empty.v1+json", "application/spdx+json"},
	} {
		t.Run(what, func(t *testing.T) {
			for _, signed := range []bool{false, true} {
				repo := fmt.Sprintf("artifacts/%s-%v", what, signed)
				d := pushArtifact(t, registry+"/"+repo+":v1", media[0], media[1])
				if signed {
					signers["v3 bundle"](t, key, registry+"/"+repo+"@"+d)
				}
				want := http.StatusForbidden
				if signed {
					want = http.StatusOK
				}
				status, body := get(t, g, repo+"/manifests/v1")
				if status != want {
					t.Fatalf("signed %v: %d %s", signed, status, body)
				}
				if !signed {
					continue
				}
				var m struct {
					Config struct{ Digest string }
					Layers []struct{ Digest string }
				}
				if err := json.Unmarshal(body, &m); err != nil {
					t.Fatal(err)
				}
				for _, blob := range append(m.Layers, m.Config) {
					if status, body := get(t, g, repo+"/blobs/"+blob.Digest); status != http.StatusOK {
						t.Errorf("blob: %d %s", status, body)
					}
				}
			}
		})
	}
}

func get(t *testing.T, g *gate, what string) (int, []byte) {
	t.Helper()
	resp, err := http.Get("http://" + g.addr + "/v2/reg.test/" + what)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func pushArtifact(t *testing.T, ref, config, layer string) string {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.MediaType(config))
	img, err := mutate.Append(
		base,
		mutate.Addendum{Layer: static.NewLayer([]byte("content of "+ref), types.MediaType(layer))},
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestSignatureRepository: signatures that cosign keeps elsewhere are found there.
func TestSignatureRepository(t *testing.T) {
	registry := startOlareg(t)
	key, public := keyPair(t)
	g := startGateWith(
		t,
		registry,
		"",
		signedBy(public)+"\n    signatureRepository: reg.test/all/signatures\n    annotations: {env: prod}",
	)
	for i, way := range []string{"v2 legacy", "v3 bundle"} {
		repo := fmt.Sprintf("apart/app%d", i)
		d := pushIndex(t, registry+"/"+repo+":v1", 100)
		if status, body := get(t, g, repo+"/manifests/"+d); status != http.StatusForbidden {
			t.Fatalf("before: %d %s", status, body)
		}
		d = pushIndex(t, registry+"/"+repo+":v2", 100)
		t.Setenv("COSIGN_REPOSITORY", registry+"/all/signatures")
		signers[way](t, key, registry+"/"+repo+"@"+d, "-a", "env=prod")
		if status, body := get(t, g, repo+"/manifests/v2"); status != http.StatusOK {
			t.Errorf("%s: %d %s", way, status, body)
		}
		d = pushIndex(t, registry+"/"+repo+":v3", 100)
		signers[way](t, key, registry+"/"+repo+"@"+d, "-a", "env=test")
		if status, body := get(
			t,
			g,
			repo+"/manifests/v3",
		); status != http.StatusForbidden ||
			!bytes.Contains(body, []byte("annotation env")) {
			t.Errorf("%s with another annotation: %d %s", way, status, body)
		}
	}
}

// TestBasicAuth: a real registry that wants a password gets it, from the gate
// alone; a wrong one is the gate's trouble, not the client's.
func TestBasicAuth(t *testing.T) {
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	htpasswd := writeFile(t, filepath.Join(dir, "htpasswd"), "robot:"+string(hash)+"\n")
	registry := startDistributionWith(t, "auth: {htpasswd: {realm: test, path: "+htpasswd+"}}\n")
	_, public := keyPair(t)
	tag, err := name.NewTag(registry+"/private/app:v1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image(t, "amd64", 100), remote.WithAuth(&authn.Basic{
		Username: "robot",
		Password: "open sesame",
	})); err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]int{"open sesame": http.StatusForbidden, "wrong": http.StatusBadGateway} {
		file := writeFile(t, filepath.Join(dir, "password"), password+"\n")
		g := startGateWith(
			t,
			registry,
			", auth: {type: basic, username: robot, passwordFile: "+file+"}",
			signedBy(public),
		)
		status, body := get(t, g, "private/app/manifests/v1")
		if status != want {
			t.Errorf("password %q: %d %s", password, status, body)
		}
		if bytes.Contains(body, []byte("sesame")) || strings.Contains(g.log.String(), "sesame") {
			t.Error("the password is in the answer or the log")
		}
	}
	if status, body := get(
		t,
		startGate(t, registry, public),
		"private/app/manifests/v1",
	); status != http.StatusNotFound {
		t.Errorf("without credentials: %d %s", status, body)
	}
}
