package oci

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzCheckStrict: what it accepts is one valid JSON value, which survives
// being decoded and encoded, and in which a decoder into a struct sees what a
// decoder into a map sees.
func FuzzCheckStrict(f *testing.F) {
	for _, s := range []string{
		``,
		`{}`,
		`[]`,
		`null`,
		`{"a":1,"a":2}`,
		`{"a":1,"A":2}`,
		`{"Layers":[]}`,
		`{"layers":[],"config":{}}`,
		`[1,]`,
		`{"a":1,}`,
		`{"annotations":{"A":1,"a":2}}`,
		"{\"\u212aey\":1}",
		`{"manife\u017fts":[]}`,
		`1e999`,
		`"\ud800"`,
		"\"\xff\"",
		`{}{}`,
		`{} `,
		`[[[[]]]]`,
		`[-0.5e+10,0,-1,01,1.,.5,1e,--1,+1]`,
		`[-0.5e+10,0,-1,1E-2]`,
		`{"a\u0041\n\/\"":"\ud834\udd1e\\"}`,
		`"\u00g0"`,
		`"\q"`,
		`"\u12`,
		`[true,false,null]`,
		`[tru]`,
		`[1 ,
		{"a" : 2}]`,
		`{,}`,
		`[,]`,
		`{"a":1,,}`,
		`[1}`,
		`{"a"}`,
		"[\"\x1f\"]",
		"[\"\x7f\"]",
		`{"env":{"predicate":{"K":1,"k":2}}}`,
	} {
		f.Add([]byte(s))
	}
	f.Add([]byte(`{"critical":{"identity":{"docker-reference":"reg.example/app"},` +
		`"image":{"docker-manifest-digest":"sha256:` +
		strings.Repeat("a", 64) + `"},"type":"cosign container image signature"},"optional":null}`))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"","digest":{"sha256":"` +
		strings.Repeat("a", 64) + `"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`))
	decode := func(t *testing.T, b []byte) any {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber() // a number may be larger than Go can hold
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("accepted, but %v: %q", err, b)
		}
		return v
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		accepted := CheckStrict(b, maxDepth, maxTokens) == nil
		for _, limits := range [][2]int{{maxDepth, maxTokens}, {3, 12}, {1, 4}} {
			depth, tokens := limits[0], limits[1]
			if got, want := CheckStrict(b, depth, tokens) == nil, strictByTokens(b, depth, tokens); got != want {
				t.Errorf("depth %d, %d tokens: accepted: %t, by encoding/json: %t: %q", depth, tokens, got, want, b)
			}
		}
		if !accepted {
			return
		}
		if !json.Valid(b) {
			t.Fatalf("accepted, but not valid: %q", b)
		}
		v := decode(t, b)
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(decode(t, again), v) {
			t.Errorf("%q encodes as %q", b, again)
		}
		if err := CheckStrict(again, maxDepth, maxTokens); err != nil {
			t.Errorf("%q is accepted, its encoding %q is not: %v", b, again, err)
		}
		object, ok := v.(map[string]any)
		if !ok {
			return
		}
		var fields struct {
			Layers    any `json:"layers"`
			Manifests any `json:"manifests"`
			Config    any `json:"config"`
			Critical  any `json:"critical"`
		}
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.UseNumber()
		if err := dec.Decode(&fields); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]any{
			"layers":    fields.Layers,
			"manifests": fields.Manifests,
			"config":    fields.Config,
			"critical":  fields.Critical,
		} {
			if !reflect.DeepEqual(got, object[name]) {
				t.Errorf("%s is %v to one decoder and %v to another: %q", name, got, object[name], b)
			}
		}
	})
}
