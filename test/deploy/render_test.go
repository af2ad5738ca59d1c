// Package deploy checks what is in deploy/: the chart as helm renders it, the
// compose file, the release's configuration. It is a module of its own, so that
// helm and the Kubernetes types stay out of the program's.
package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

// root is the checkout.
const root = "../.."

// object is one rendered object: its kind, and its text.
type object struct {
	kind, name string
	text       string
}

func loadChart(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(filepath.Join(root, "deploy/helm/pullgate"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render renders the chart as `helm install gate --namespace registry` does.
func render(t *testing.T, values string) ([]object, error) {
	t.Helper()
	var given map[string]any
	if err := yaml.Unmarshal([]byte(values), &given); err != nil {
		t.Fatal(err)
	}

	c := loadChart(t)
	release := chartutil.ReleaseOptions{
		Name:      "gate",
		Namespace: "registry",
		Revision:  1,
		IsInstall: true,
	}
	merged, err := chartutil.ToRenderValuesWithSchemaValidation(c, given, release, nil, false)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, merged)
	if err != nil {
		return nil, err
	}
	return objects(t, files), nil
}

// objects takes the rendered files apart.
func objects(t *testing.T, files map[string]string) []object {
	t.Helper()
	var found []object
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(file) != ".yaml" {
			continue
		}
		for text := range strings.SplitSeq("\n"+files[file], "\n---\n") {
			var head struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
				Metadata   struct {
					Name string `json:"name"`
				} `json:"metadata"`
			}
			if err := yaml.Unmarshal([]byte(text), &head); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, text)
			}
			if head.Kind != "" {
				found = append(found, object{head.APIVersion + " " + head.Kind, head.Metadata.Name, text})
			}
		}
	}
	return found
}

// valuesFiles are the installations that the tests look at.
func valuesFiles(t *testing.T) map[string]string {
	t.Helper()
	found, err := filepath.Glob("testdata/values/*.yaml")
	if err != nil || len(found) < 6 {
		t.Fatalf("%d values files, %v", len(found), err)
	}

	files := map[string]string{}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(filepath.Base(name), ".yaml")] = string(text)
	}
	return files
}

func mustRender(t *testing.T, values string) []object {
	t.Helper()
	found, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func only(t *testing.T, found []object, kind string) object {
	t.Helper()
	var of []object
	for _, o := range found {
		if o.kind == kind {
			of = append(of, o)
		}
	}
	if len(of) != 1 {
		t.Fatalf("%d of %s, not one", len(of), kind)
	}
	return of[0]
}
