package policy

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func TestExpressions(t *testing.T) {
	t.Parallel()
	numbers := "[" + strings.Repeat("1,", 299) + "1]"
	text := `{"level":2,"ratio":0.5,"big":1e300,"name":"acme","none":null,"list":` +
		numbers + `,"nested":{"a":{"b":true}},"x-y":"z","empty":[]}`
	var predicate any
	if err := json.Unmarshal([]byte(text), &predicate); err != nil {
		t.Fatal(err)
	}

	const digest = "0000000000000000000000000000000000000000000000000000000000000000"
	statement := Statement{
		Predicate:     predicate,
		PredicateType: "https://slsa.dev/provenance/v1",
		Image:         "reg.example/acme/app",
		Digest:        "sha256:" + digest,
		Subject:       []any{map[string]any{"name": "app", "digest": map[string]any{"sha256": digest}}},
	}
	for expression, want := range map[string]string{
		`true`:                   "",
		`predicate.level == 2`:   "",
		`predicate.level == 2.0`: "",
		`predicate.level >= 1 && predicate.ratio < 1`:                    "",
		`predicate.name == "acme"`:                                       "",
		`predicate.name.matches("^acme$")`:                               "",
		`predicate["x-y"] == "z"`:                                        "",
		`predicate.nested.a.b`:                                           "",
		`has(predicate.level) && !has(predicate.missing)`:                "",
		`predicate.list.all(x, x == 1)`:                                  "",
		`predicate.none == null`:                                         "",
		`image.name.startsWith("reg.example/")`:                          "",
		`subject.exists(s, "sha256:" + s.digest.sha256 == image.digest)`: "",
		`predicateType == "https://slsa.dev/provenance/v1"`:              "",

		`false`:                                        "is false",
		`predicate.name.matches("^acm$")`:              "is false",
		`predicate.level`:                              "neither true nor false",
		`predicate.none`:                               "neither true nor false",
		`predicate.name`:                               "neither true nor false",
		`predicate.missing == 1`:                       "cannot be evaluated",
		`predicate.missing != 1`:                       "cannot be evaluated",
		`!(predicate.missing == 1)`:                    "cannot be evaluated",
		`predicate.nested.missing.deeper`:              "cannot be evaluated",
		`predicate.name > 1`:                           "cannot be evaluated",
		`predicate.name.missing`:                       "cannot be evaluated",
		`predicate.list[300] == 1`:                     "cannot be evaluated",
		`predicate.empty[0] == 1`:                      "cannot be evaluated",
		`image.tag == "v1"`:                            "cannot be evaluated",
		`1 / (predicate.level - predicate.level) == 1`: "cannot be evaluated",
		`predicate.list.all(a, predicate.list.all(b, predicate.list.all(c, predicate.list.all(d, a + b + c + d ` +
			`> 0))))`: "cannot be evaluated",
		`predicate.list.map(a, predicate.list.map(b, predicate.list.map(c, [a, b, c])))` +
			`.size() > 0`: "cannot be evaluated",
		`predicate.list.exists(a, predicate.list.exists(b, predicate.list.exists(c, (predicate.name + ` +
			`string(a)).matches("(a|b)*zz"))))`: "cannot be evaluated",
	} {
		t.Run(expression, func(t *testing.T) {
			e, err := ParseExpression(expression)
			if err != nil {
				t.Fatal(err)
			}

			err = e.Holds(t.Context(), statement)
			switch {
			case want == "" && err != nil:
				t.Error(err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}

// Evaluation ends with the context, long before its cost does.
func TestExpressionContext(t *testing.T) {
	t.Parallel()
	e, err := ParseExpression(`predicate.all(a, predicate.all(b, a == b))`)
	if err != nil {
		t.Fatal(err)
	}

	var list []any
	for range 300 {
		list = append(list, 1.0)
	}

	statement := Statement{Predicate: list, Subject: []any{}}
	if err := e.Holds(t.Context(), statement); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Holds(ctx, statement); err == nil || !strings.Contains(err.Error(), "cannot be evaluated") {
		t.Error(err)
	}
}

// What one evaluation saw is not there for the next.
func TestExpressionMemory(t *testing.T) {
	t.Parallel()
	e, err := ParseExpression(`predicate.a`)
	if err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if err := e.Holds(t.Context(), Statement{Predicate: map[string]any{"a": true}}); err != nil {
			t.Error(err)
		}
		for _, predicate := range []any{map[string]any{"a": false}, map[string]any{}, nil} {
			if e.Holds(t.Context(), Statement{Predicate: predicate}) == nil {
				t.Errorf("true of %v", predicate)
			}
		}
	}
}

func BenchmarkExpressionAtItsBound(b *testing.B) {
	e, err := ParseExpression(`predicate.all(a, predicate.all(b, predicate.all(c, a + b + c > 0)))`)
	if err != nil {
		b.Fatal(err)
	}
	var list []any
	for range 500 {
		list = append(list, 1.0)
	}
	for b.Loop() {
		if e.Holds(b.Context(), Statement{Predicate: list}) == nil {
			b.Fatal("it ended")
		}
	}
}
