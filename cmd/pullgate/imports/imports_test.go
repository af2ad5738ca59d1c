package imports

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// formatOf says which format a file of testdata is in.
func formatOf(path string) string {
	name := filepath.Base(path)
	switch {
	case strings.HasPrefix(name, "cip-"):
		return "clusterimagepolicy"
	case strings.HasPrefix(name, "kyverno-"):
		return "kyverno"
	case strings.HasPrefix(name, "talos"):
		return "talos"
	}
	return "policy.json"
}

func convert(t *testing.T, path string) Result {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Convert(formatOf(path), []File{{filepath.Base(path), source}})
}

// TestGolden imports the published examples, and what cannot be imported.
// Whatever is printed loads in pullgate.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.[jy]*")
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d files, %v", len(paths), err)
	}

	for _, path := range paths {
		if strings.HasSuffix(path, ".golden") {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			result := convert(t, path)
			var got strings.Builder
			got.Write(result.YAML)
			got.WriteString("--- stderr\n")
			for _, loss := range result.Losses {
				fmt.Fprintf(&got, "%s (not carried)\n", loss)
			}

			for _, problem := range result.Problems {
				fmt.Fprintln(&got, problem)
			}

			golden := path + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}

			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("go test ./cmd/pullgate/imports -update writes it anew\n%s", got.String())
			}
			if (len(result.Problems) > 0) != strings.Contains(path, "-refused") {
				t.Errorf("%d problems", len(result.Problems))
			}
			if len(result.Problems) == 0 {
				load(t, result.YAML)
			} else if result.YAML != nil {
				t.Error("something was printed beside the problems")
			}
		})
	}
}

// load loads what was printed, after making the files that it names.
func load(t *testing.T, text []byte) *policy.Set {
	t.Helper()
	dir := t.TempDir()
	key, err := os.ReadFile("testdata/keys/cosign.pub")
	if err != nil {
		t.Fatal(err)
	}

	roots, err := os.ReadFile("testdata/keys/roots.pem")
	if err != nil {
		t.Fatal(err)
	}

	text = []byte(strings.ReplaceAll(string(text), "/etc/pki/", dir+"/"))
	var output struct {
		TrustRoots []struct{ File string } `yaml:"trustRoots"`
	}
	if err := yaml.Unmarshal(text, &output); err != nil {
		t.Fatal(err)
	}

	files := map[string][]byte{"policy.yaml": text, "cosign.pub": key, "roots.pem": roots, "intermediates.pem": roots}
	for _, root := range output.TrustRoots {
		files[root.File] = []byte("{}")
	}

	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	set, problems := policy.Load(policy.Input{Dir: dir, Files: []string{"policy.yaml"}})
	for _, problem := range problems {
		t.Errorf("does not load: %s", problem)
	}

	return set
}
