package e2e

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// TestReadConformance: what the distribution specification's own suite finds of
// reading through the gate is what it finds of the registry behind it, test by
// test. What a registry lacks, the gate does not make up.
func TestReadConformance(t *testing.T) {
	need(t, "oci-conformance")
	for kind, startRegistry := range registries {
		t.Run(kind, func(t *testing.T) {
			registry := startRegistry(t)
			key, public := ownKeyPair(t)
			index := pushIndex(t, registry+"/team/app:v1", 3000)
			mustRun(t, binary(t), "sign", "--key", key, registry+"/team/app@"+index)
			g := startGate(t, registry, public)

			content := contentOf(t, registry+"/team/app@"+index)
			direct := conformance(t, registry, "team/app", content)
			through := conformance(t, g.addr, "reg.test/team/app", content)
			if len(direct) == 0 || countPassed(direct) == 0 {
				t.Fatalf("the suite has found nothing: %v", direct)
			}
			for _, part := range []string{"pull", "head", "tag-list", "referrers"} {
				if r := direct["OCI Conformance Test/read-only/"+part]; r != "Pass" && r != "FAIL" {
					t.Errorf("the suite has not tried %s: %q", part, r)
				}
			}
			if !maps.Equal(direct, through) {
				for test := range direct {
					if direct[test] != through[test] {
						t.Errorf("%s: %q of the registry, %q through the gate", test, direct[test], through[test])
					}
				}
				t.Errorf("%d tests of the registry, %d through the gate", len(direct), len(through))
			}
		})
	}
}

// ownKeyPair is a key pair by pullgate.
func ownKeyPair(t *testing.T) (private, public string) {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "own")
	mustRun(t, binary(t), "generate-key-pair", "--output", prefix)
	return prefix + ".key", prefix + ".pub"
}

// readable is what a registry holds, as the suite's roData names it. JSON is
// YAML.
type readable struct {
	Tags      []string `json:"tags"`
	Manifests []string `json:"manifests"`
	Blobs     []string `json:"blobs"`
	Referrers []string `json:"referrers"`
}

// contentOf lists a signed index with its parts: the index has a referrer, its
// images have none.
func contentOf(t *testing.T, ref string) readable {
	t.Helper()
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(r)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}

	c := readable{Tags: []string{"v1"}, Manifests: []string{r.Identifier()}, Referrers: []string{r.Identifier()}}
	for _, child := range list.Manifests {
		image, err := index.Image(child.Digest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := image.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		c.Manifests = append(c.Manifests, child.Digest.String())
		c.Referrers = append(c.Referrers, child.Digest.String())
		for _, blob := range append([]v1.Descriptor{m.Config}, m.Layers...) {
			c.Blobs = append(c.Blobs, blob.Digest.String())
		}
	}
	return c
}

// conformance runs the suite's tests of reading, and returns the result of each.
func conformance(t *testing.T, addr, repo string, content readable) map[string]string {
	t.Helper()
	dir := t.TempDir()
	config, err := json.Marshal(map[string]any{
		"registry":   addr,
		"repo1":      repo,
		"repo2":      repo,
		"tls":        "disabled",
		"resultsDir": dir,
		"version":    "1.1",
		"roData":     content,
		"apis": map[string]any{
			"pull": true, "push": false, "referrer": true,
			"blobs":     map[string]any{"delete": false},
			"manifests": map[string]any{"delete": false},
			"tags":      map[string]any{"delete": false, "list": true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, filepath.Join(dir, "oci-conformance.yaml"), string(config))
	// It exits 1 where one test fails, and panics over its files after read-only
	// tests; what it prints is whole before that.
	out, _ := runWith(t, []string{"OCI_CONFIGURATION=" + file}, "oci-conformance")

	_, tree, _ := strings.Cut(out, "Test results\n")
	tree, _, whole := strings.Cut(tree, "\n\n")
	if !whole {
		t.Fatalf("the suite has not ended:\n%s", out)
	}
	results := map[string]string{}
	for line := range strings.Lines(tree) {
		line = strings.ReplaceAll(strings.TrimSpace(line), repo, "REPO")
		if at := strings.LastIndex(line, ": "); at > 0 && strings.HasPrefix(line, "OCI Conformance Test") {
			results[line[:at]] = line[at+2:]
		}
	}
	return results
}

func countPassed(results map[string]string) int {
	n := 0
	for _, status := range results {
		if status == "Pass" {
			n++
		}
	}
	return n
}
