package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// kubernetesModule has the schemas of its API among its files. It is fetched
// beside this module, not required by it: nothing of it is compiled.
const kubernetesModule = "k8s.io/kubernetes@v1.36.5"

// definitions are the schemas' names of what the chart renders. ServiceMonitor and
// PrometheusRule are not Kubernetes' own; TestChartDecodes holds them to their types.
var definitions = map[string]string{
	"apps/v1 Deployment":                 "io.k8s.api.apps.v1.Deployment",
	"apps/v1 DaemonSet":                  "io.k8s.api.apps.v1.DaemonSet",
	"v1 ConfigMap":                       "io.k8s.api.core.v1.ConfigMap",
	"v1 PersistentVolumeClaim":           "io.k8s.api.core.v1.PersistentVolumeClaim",
	"v1 Service":                         "io.k8s.api.core.v1.Service",
	"v1 ServiceAccount":                  "io.k8s.api.core.v1.ServiceAccount",
	"policy/v1 PodDisruptionBudget":      "io.k8s.api.policy.v1.PodDisruptionBudget",
	"networking.k8s.io/v1 NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
}

// TestChartSchema holds all that every installation renders to the schemas that
// Kubernetes publishes.
func TestChartSchema(t *testing.T) {
	compiler := kubernetesSchemas(t)
	compiled := map[string]*jsonschema.Schema{}
	for kind, name := range definitions {
		s, err := compiler.Compile("swagger.json#/definitions/" + name)
		if err != nil {
			t.Fatal(err)
		}
		compiled[kind] = s
	}

	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range mustRender(t, values) {
				if strings.HasPrefix(o.kind, "monitoring.coreos.com/") {
					continue
				}
				if err := valid(t, compiled[o.kind], o.text); err != nil {
					t.Errorf("%s %s: %v", o.kind, o.name, err)
				}
			}
		})
	}

	t.Run("a check that cannot fail is none", func(t *testing.T) {
		for name, text := range map[string]string{
			"unknown field": `{"spec": {"ports": [{"port": 1, "prot": "TCP"}]}}`,
			"missing field": `{"spec": {"ports": [{"name": "a"}]}}`,
			"other type":    `{"spec": {"ports": [{"port": "http"}]}}`,
		} {
			if valid(t, compiled["v1 Service"], text) == nil {
				t.Errorf("%s is accepted", name)
			}
		}
	})
}

func valid(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	encoded, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}

// kubernetesSchemas returns a compiler for the definitions of swagger.json, made
// strict: a field that is not described is an error.
func kubernetesSchemas(t *testing.T) *jsonschema.Compiler {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", kubernetesModule).Output()
	if err != nil {
		t.Fatalf("download %s: %v\n%s", kubernetesModule, err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}

	f, err := os.Open(filepath.Join(module.Dir, "api", "openapi-spec", "swagger.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	swagger, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}

	for name, definition := range swagger.(map[string]any)["definitions"].(map[string]any) {
		makeStrict(name, definition.(map[string]any))
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4)
	if err := compiler.AddResource("swagger.json", swagger); err != nil {
		t.Fatal(err)
	}
	return compiler
}

func makeStrict(name string, definition map[string]any) {
	switch {
	case strings.HasSuffix(name, ".IntOrString"), strings.HasSuffix(name, ".Quantity"):
		definition["type"] = []any{"string", "number"} // swagger has no word for either of two types
	case definition["properties"] != nil:
		definition["additionalProperties"] = false
	}
}
