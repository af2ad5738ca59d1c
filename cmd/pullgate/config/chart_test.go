package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the code says into the chart's schema")

// chartKeys are the settings that the chart writes itself, by their path.
var chartKeys = map[string]bool{
	"listen":                true,
	"admin.listen":          true,
	"policyFiles":           true,
	"state":                 true,
	"tls":                   true,
	"database":              true,
	"databasePasswordFile":  true,
	"databaseNamespaceFile": true,
}

// TestChartSchema holds the schema of the chart's value `config` to the settings
// that this program knows, so that helm refuses a mistyped one before a gate does.
// `go test ./cmd/pullgate/config -run ChartSchema -update` writes it.
func TestChartSchema(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "..", "deploy", "helm", "pullgate", "values.schema.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	schema["definitions"] = map[string]any{"config": schemaOf(reflect.TypeFor[Config](), "")}

	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(text, want.Bytes()) {
		return
	}

	if !*update {
		t.Fatalf("%s does not say what the code says: run this test with -update", file)
	}
	if err := os.WriteFile(file, want.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// schemaOf says in JSON Schema what a setting of type t may be; path is its place.
func schemaOf(t reflect.Type, path string) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "string", "pattern": `^([0-9.]+(ns|us|µs|ms|s|m|h))+$`}
	case t == reflect.TypeFor[Size]():
		return map[string]any{"type": []string{"string", "integer"}}
	case t.Kind() == reflect.String:
		return map[string]any{"type": "string"}
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return map[string]any{"type": "integer"}
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Interface:
		return map[string]any{"type": "array", "items": map[string]any{"type": "object"}} // read by other rooms
	case t.Kind() == reflect.Slice && t.Name() != "": // one that may be written without a list
		return map[string]any{"type": []string{"string", "array"}, "items": schemaOf(t.Elem(), path)}
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), path)}
	case t.Kind() == reflect.Struct:
		return map[string]any{"type": "object", "additionalProperties": false, "properties": propertiesOf(t, path)}
	}
	return map[string]any{} // read with care elsewhere
}

func propertiesOf(t reflect.Type, path string) map[string]any {
	properties := map[string]any{}
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("mapstructure")
		if name == "" || chartKeys[path+name] {
			continue
		}
		properties[name] = schemaOf(t.Field(i).Type, path+name+".")
	}
	return properties
}
