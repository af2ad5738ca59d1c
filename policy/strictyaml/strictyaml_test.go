package strictyaml

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// read is the root of the one document of text.
func read(t *testing.T, text string) Value {
	t.Helper()
	for document, err := range Documents([]byte(text)) {
		if err != nil {
			t.Fatal(err)
		}
		return Value{Node: document.Content[0], File: "f", Line: 1}
	}
	t.Fatal("no document")
	return Value{}
}

func TestDocuments(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		want   int // documents before the end or the error
		broken bool
	}{
		"none":                 {"# nothing\n", 0, false},
		"one":                  {"a: 1\n", 1, false},
		"JSON":                 {`{"a": [1, true, null]}`, 1, false},
		"three":                {"a: 1\n---\nb: 2\n---\nc: 3\n", 3, false},
		"empty between":        {"a: 1\n---\n---\nc: 3\n", 3, false},
		"no YAML":              {"a: [\n", 0, true},
		"no YAML after a good": {"a: 1\n---\nb: [\n", 1, true},
		"an unknown alias":     {"a: *b\n", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			documents, failed := 0, false
			for _, err := range Documents([]byte(c.text)) {
				if failed {
					t.Fatal("something comes after an error")
				}
				if err != nil {
					failed = true
					continue
				}
				documents++
			}
			if documents != c.want || failed != c.broken {
				t.Errorf("%d documents, failed %t", documents, failed)
			}
		})
	}

	t.Run("ended early", func(t *testing.T) {
		for range Documents([]byte("a: 1\n---\nb: [\n")) {
			break
		}
	})
}

func TestFields(t *testing.T) {
	v := read(t, "one: 1\ntwo:\n  [x]\none: 2\n<<: {three: 3}\none: 3\n")
	v.Path = "spec"
	var got []string
	for _, f := range v.Fields() {
		got = append(got, fmt.Sprint(f.Name, " ", f.Path, " ", f.NameAt(), " ", f.At(), " ", f.First, " ", f.IsMerge()))
	}

	want := []string{
		"one spec.one f:1 f:1 0 false",
		"two spec.two f:2 f:3 0 false",
		"one spec.one f:4 f:4 1 false",
		"<< spec.<< f:5 f:5 0 true",
		"one spec.one f:6 f:6 1 false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("fields\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The outermost mapping has no path, and a quoted << is a name like any other.
func TestFieldsOfRoot(t *testing.T) {
	fields := read(t, `{"<<": 1}`).Fields()
	if len(fields) != 1 || fields[0].Path != "<<" || fields[0].IsMerge() {
		t.Errorf("fields %+v", fields)
	}
}

func TestItems(t *testing.T) {
	v := read(t, "- a\n-\n  b\n")
	v.Path = "list"
	items := v.Items()
	if len(items) != 2 || items[1].Path != "list[1]" || items[1].At().String() != "f:3" ||
		items[1].NameAt() != items[1].At() || items[1].Node.Value != "b" {
		t.Errorf("items %+v", items)
	}
}

func TestIs(t *testing.T) {
	root := read(t, "text: x\nnumber: 1\nnull: ~\nlist: &l []\nmap: {}\nalias: *l\ntagged: !!str 1\nown: !own {}\n")
	values := map[string]Value{}
	for _, f := range root.Fields() {
		values[f.Name] = f.Value
	}

	for name, c := range map[string]struct {
		of   string
		kind yaml.Kind
		tag  string
		want error
	}{
		"a text":                {"text", yaml.ScalarNode, "!!str", nil},
		"a text of any tag":     {"number", yaml.ScalarNode, "", nil},
		"a number for a text":   {"number", yaml.ScalarNode, "!!str", ErrKind},
		"a number as a text":    {"tagged", yaml.ScalarNode, "!!str", nil},
		"null for a text":       {"null", yaml.ScalarNode, "!!str", ErrKind},
		"a list":                {"list", yaml.SequenceNode, "!!seq", nil},
		"a list for a mapping":  {"list", yaml.MappingNode, "!!map", ErrKind},
		"a mapping":             {"map", yaml.MappingNode, "!!map", nil},
		"a mapping of own kind": {"own", yaml.MappingNode, "!!map", ErrKind},
		"an alias for its list": {"alias", yaml.SequenceNode, "!!seq", ErrAlias},
		"an alias for a text":   {"alias", yaml.ScalarNode, "", ErrAlias},
	} {
		t.Run(name, func(t *testing.T) {
			if err := values[c.of].Is(c.kind, c.tag); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A value of another kind has no fields and no items; what an alias stands for
// is never looked at.
func TestOtherKinds(t *testing.T) {
	root := read(t, "anchor: &a {x: [1]}\nalias: *a\ntext: x\nnull: ~\n")
	for _, f := range root.Fields() {
		if f.Name == "anchor" {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			if len(f.Fields())+len(f.Items()) > 0 {
				t.Error("has fields or items")
			}
			if f.IsNull() != (f.Name == "null") {
				t.Errorf("is null: %t", f.IsNull())
			}
		})
	}
}

func TestPosition(t *testing.T) {
	for name, c := range map[string]struct {
		at   Position
		want string
		zero bool
	}{
		"nowhere": {Position{}, ": broken", true},
		"file":    {Position{File: "f"}, "f: broken", false},
		"line":    {Position{File: "f", Line: 7}, "f:7: broken", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.at.Problem("%s", "broken").String(); got != c.want || c.at.IsZero() != c.zero {
				t.Errorf("%q, nowhere: %t", got, c.at.IsZero())
			}
		})
	}
}

func TestTab(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want string // "": no error
		tab  bool
	}{
		"in the first line":  {"\ta: 1\n", "line 1: ", true},
		"for an item":        {"a:\n\t- b\n", "line 2: ", true},
		"after spaces":       {"a:\n  - b: 1\n  \tc: 2\n", "line 3: ", true},
		"in a later one":     {"a: 1\nb:\n  c: 2\n\td: 3\n", "line 4: ", true},
		"in a value":         {"a: \"x\ty\"\n", "", false},
		"behind a colon":     {"a:\t1\n", "", false},
		"and another fault":  {"a: |\n  x\n  \ty\nb: [\n", "", false},
		"in a second":        {"a: 1\n---\nb:\n\t- c\n", "line 4: ", true},
		"an empty line only": {"a: 1\n\t\nb: 2\n", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			var got error
			for _, err := range Documents([]byte(c.text)) {
				got = err
			}
			if errors.Is(got, ErrTab) != c.tab || c.want != "" && !strings.HasPrefix(fmt.Sprint(got), c.want) {
				t.Errorf("error %v", got)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	names := []string{"policies", "policyFiles", "key", "keys", "mode", "admin", "listen"}
	for unknown, want := range map[string]string{
		"polices":                 "policies",
		"Policies":                "policies",
		"plocies":                 "policies",
		"policyfile":              "policyFiles",
		"kye":                     "key",
		"KEYS":                    "keys",
		"moed":                    "mode",
		"rules":                   "",
		"x":                       "",
		"":                        "",
		"md":                      "",
		strings.Repeat("k", 5000): "",
	} {
		if got, ok := Nearest(unknown, names); got != want || ok != (want != "") {
			t.Errorf("%.20q: %q", unknown, got)
		}
	}
}
