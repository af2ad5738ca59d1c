package decisions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/proxy"
	"github.com/pullgate/pullgate/verify"
)

// someDecision returns a decision whose every field is set.
func someDecision(n int) proxy.Decision {
	return proxy.Decision{
		Time:       time.Date(2026, 11, 24, 10, 0, n%60, 0, time.UTC),
		ID:         fmt.Sprintf("%026d", n),
		Client:     "10.0.0.7",
		ClientName: "user:ci",
		Agent:      "containerd/2.1.4",
		Method:     "GET",
		Kind:       "manifest",
		Image:      "ghcr.io/acme/app",
		Reference:  "v1",
		Path:       "/v2/other.example/app/manifests/v1",
		Digest:     "sha256:" + strings.Repeat("a", 64),
		Parent:     "sha256:" + strings.Repeat("b", 64),
		Outcome:    "denied",
		Status:     403,
		Policy:     "prod",
		PolicyHash: strings.Repeat("c", 64),
		Findings:   []verify.Finding{{Authority: "release", Passed: true, Detail: "no signature found"}},
		Reasons:    []verify.Reason{{Code: "no_signature", Authority: "release", Text: "no signature found"}},
		Signer:     "key release",
		Unknown:    true,
		Error:      "none",
		Cache:      true,
		Took:       1.5,
		Upstream:   1.25,
	}
}

// someRecord returns the record of someDecision.
func someRecord(n int) Record {
	d := someDecision(n)
	return newRecord(&d)
}

// TestNewRecord: no field of a decision is left out of its record.
func TestNewRecord(t *testing.T) {
	t.Parallel()
	for _, v := range []reflect.Value{reflect.ValueOf(someDecision(1)), reflect.ValueOf(someRecord(1))} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s.%s is not set", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	if d, r := reflect.TypeFor[proxy.Decision](), reflect.TypeFor[Record](); d.NumField() != r.NumField() {
		t.Errorf("a decision has %d fields, its record %d", d.NumField(), r.NumField())
	}
}

// TestLine: a line is what encoding/json would have written of the same record.
func TestLine(t *testing.T) {
	t.Parallel()
	whole := someRecord(1)
	whole.Findings = append(whole.Findings, Finding{Authority: `a "quoted" \ name`, Detail: "<é>"}, Finding{})
	whole.Reasons = append(whole.Reasons, Reason{Reason: `\"`}, Reason{Authority: "b"})

	for name, r := range map[string]Record{
		"whole":   whole,
		"numbers": {Took: 0.001, Upstream: 123456.789},
		"list":    {Time: time.Now().UTC(), Findings: []Finding{{}}},
	} {
		t.Run(name, func(t *testing.T) {
			var want bytes.Buffer
			encoder := json.NewEncoder(&want)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(r); err != nil {
				t.Fatal(err)
			}
			if got := appendLine(nil, &r); string(got) != want.String() {
				t.Errorf("the line is\n%snot\n%s", got, want.String())
			}
		})
	}
}

// TestHostileText: nothing that a client or a registry says forges a line or takes
// more than its line.
func TestHostileText(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"short": evil, "huge": strings.Repeat(evil, 1<<9)} {
		t.Run(name, func(t *testing.T) {
			d := evilDecision(text, 100)
			r := newRecord(&d)
			if d.Reasons[0].Text != text {
				t.Fatal("what requests share was changed")
			}
			line := appendLine(nil, &r)
			if bytes.Count(line, []byte("\n")) != 1 || !bytes.HasSuffix(line, []byte("\n")) || !json.Valid(line) {
				t.Errorf("not one line of JSON: %.200q", line)
			}
			if len(line) > maxLineBytes {
				t.Errorf("%d bytes", len(line))
			}
			if one := strings.TrimSuffix(string(line), "\n"); show.Printable(one) != one {
				t.Errorf("the line is not printable: %.200q", one)
			}
		})
	}
	if got := show.Printable("plain ASCII, and é"); got != "plain ASCII, and é" {
		t.Errorf("%q", got)
	}
}

// TestDocumentation: the fields in docs/decisions.md are those of a line.
func TestDocumentation(t *testing.T) {
	t.Parallel()
	r := someRecord(1)
	var has map[string]any
	if err := json.Unmarshal(appendLine(nil, &r), &has); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"findings", "reasons"} {
		for key := range has[list].([]any)[0].(map[string]any) {
			has[list+"[]."+key] = true
		}
	}

	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "decisions.md"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{
		"text":          "string",
		"number":        "float64",
		"true or false": "bool",
		"list":          "[]interface {}",
	}
	row := regexp.MustCompile("(?m)^\\| `([a-zA-Z.\\[\\]]+)` \\| ([a-z ]+?)(?:, .*?)? \\|")
	listed := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
		value, ok := has[m[1]]
		switch {
		case !ok:
			t.Errorf("%s is documented and not in a line", m[1])
		case !strings.Contains(m[1], "[].") && fmt.Sprintf("%T", value) != kinds[m[2]]:
			t.Errorf("%s is documented as %s and is %T", m[1], m[2], value)
		}
	}
	for key := range has {
		if !listed[key] {
			t.Errorf("%s is not documented", key)
		}
	}
}
