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

// These modules have the schemas of their kinds among their files. They are fetched
// beside this module, not required by it: nothing of them is compiled.
const (
	kubernetesModule = "k8s.io/kubernetes@v1.36.5"
	operatorModule   = "github.com/prometheus-operator/prometheus-operator@v0.92.1"
)

// definitions are the schemas' names of what the chart renders.
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
	for kind, plural := range map[string]string{
		"monitoring.coreos.com/v1 ServiceMonitor": "servicemonitors",
		"monitoring.coreos.com/v1 PrometheusRule": "prometheusrules",
	} {
		compiled[kind] = customSchema(t, plural)
	}

	checked := map[string]int{}
	for name, values := range valuesFiles(t) {
		t.Run(name, func(t *testing.T) {
			for _, o := range mustRender(t, values) {
				checked[o.kind]++
				if err := valid(t, compiled[o.kind], o.text); err != nil {
					t.Errorf("%s %s: %v", o.kind, o.name, err)
				}
			}
		})
	}

	for kind := range compiled {
		if checked[kind] == 0 {
			t.Errorf("no installation has a %s", kind)
		}
	}
	t.Run("a check that cannot fail is none", func(t *testing.T) {
		for name, text := range map[string]string{
			"unknown field":      `{"spec": {"selector": {}, "endpoints": [{"prot": "admin"}]}}`,
			"missing field":      `{"spec": {"selector": {}}}`,
			"value out of range": `{"spec": {"selector": {}, "endpoints": [{"interval": "often"}]}}`,
		} {
			if valid(t, compiled["monitoring.coreos.com/v1 ServiceMonitor"], text) == nil {
				t.Errorf("ServiceMonitor: %s is accepted", name)
			}
		}
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
	f, err := os.Open(filepath.Join(download(t, kubernetesModule), "api", "openapi-spec", "swagger.json"))
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

// download returns the folder of a module's files.
func download(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		t.Fatalf("download %s: %v\n%s", module, err, out)
	}
	var found struct{ Dir string }
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	return found.Dir
}

// customSchema is the schema of a kind that the Prometheus operator defines, made
// strict, as an API server in strict mode has it.
func customSchema(t *testing.T, plural string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(download(t, operatorModule),
		"example", "prometheus-operator-crd", "monitoring.coreos.com_"+plural+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Spec struct {
			Versions []struct {
				Name   string
				Schema struct {
					OpenAPIV3Schema map[string]any
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}

	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4)
	for _, v := range definition.Spec.Versions {
		if v.Name != "v1" {
			continue
		}
		makeAllStrict(v.Schema.OpenAPIV3Schema)
		if err := compiler.AddResource(plural+".json", v.Schema.OpenAPIV3Schema); err != nil {
			t.Fatal(err)
		}
		s, err := compiler.Compile(plural + ".json")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Fatalf("%s has no v1", plural)
	return nil
}

// makeAllStrict does to a schema and all within it what makeStrict does to one.
func makeAllStrict(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if properties, ok := s["properties"].(map[string]any); ok && properties != nil &&
			s["x-kubernetes-preserve-unknown-fields"] == nil {
			s["additionalProperties"] = false
		}
		for _, inner := range s {
			makeAllStrict(inner)
		}
	case []any:
		for _, inner := range s {
			makeAllStrict(inner)
		}
	}
}

func makeStrict(name string, definition map[string]any) {
	switch {
	case strings.HasSuffix(name, ".IntOrString"), strings.HasSuffix(name, ".Quantity"):
		definition["type"] = []any{"string", "number"} // swagger has no word for either of two types
	case definition["properties"] != nil:
		definition["additionalProperties"] = false
	}
}
