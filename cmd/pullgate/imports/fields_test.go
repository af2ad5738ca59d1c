package imports

import (
	"bufio"
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var (
	index    = regexp.MustCompile(`\[\d+\]`)
	comments = regexp.MustCompile(`(?m)^\s*#.*\n`)
)

// TestFields walks the fields that the formats have, one line of
// testdata/fields.txt each, and holds what becomes of them:
//
//	BASE | FIELD | PATH = VALUE; PATH = VALUE | OUTCOME
//
// BASE.yaml is imported with those values put in. "carried TEXT" means that the
// policies then say TEXT and did not before, "removed TEXT" the reverse, "lost"
// that a loss names the field, "refused" that a problem does ("-by OTHER": names
// OTHER instead), "same" that nothing changes and nothing is said, which is for
// what names an object or is written by the cluster. No field that a reader knows
// is without its line.
func TestFields(t *testing.T) {
	table, err := os.ReadFile("testdata/fields.txt")
	if err != nil {
		t.Fatal(err)
	}

	listed := map[string]bool{}
	known := map[string]string{}
	lines := 0
	scanner := bufio.NewScanner(bytes.NewReader(table))
	for n := 1; scanner.Scan(); n++ {
		if scanner.Text() == "" || strings.HasPrefix(scanner.Text(), "#") {
			continue
		}
		lines++
		part := strings.Split(scanner.Text(), " | ")
		if len(part) != 4 {
			t.Fatalf("line %d has %d parts", n, len(part))
		}
		base, field, sets, want := part[0], part[1], part[2], part[3]
		family := strings.Split(base, "-")[0]
		listed[family+" "+field] = true
		t.Run(base+" "+field, func(t *testing.T) {
			source, err := os.ReadFile("testdata/fields/" + base + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			plain := Convert(formatOf(base), []File{{"base", source}})
			if len(plain.Problems) > 0 {
				t.Fatalf("the base has problems: %v", plain.Problems)
			}
			var doc yaml.Node
			if err := yaml.Unmarshal(source, &doc); err != nil {
				t.Fatal(err)
			}
			for set := range strings.SplitSeq(sets, "; ") {
				path, text, ok := strings.Cut(set, " = ")
				if !ok {
					path, text = field, set
				}
				put(t, doc.Content[0], strings.Split(path, "."), text)
			}

			changed, err := yaml.Marshal(&doc)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(base, "cip-") {
				const root = "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata: {name: corp}\n"
				changed = append(changed, "---\n"+root...)
			}
			r := &report{visit: func(path string, fields fields) {
				for name := range fields {
					full := strings.TrimPrefix(index.ReplaceAllString(path, "")+"."+name, ".")
					full = strings.ReplaceAll(full, "entries.attestor.entries", "entries") // sets within sets
					known[family+" "+full] = base
				}
			}}
			got := r.convert(formatOf(base), []File{{"base", changed}})
			names := func(messages string) bool {
				named := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(field) + `[:.]`)
				return named.MatchString(index.ReplaceAllString(messages, ""))
			}

			var losses, problems string
			for _, p := range got.Losses {
				losses += p.Message + "\n"
			}

			for _, p := range got.Problems {
				problems += p.Message + "\n"
			}

			before := comments.ReplaceAllString(string(plain.YAML), "")
			after := comments.ReplaceAllString(string(got.YAML), "")
			text, carried := strings.CutPrefix(want, "carried ")
			gone, removed := strings.CutPrefix(want, "removed ")
			want, by, found := strings.Cut(want, "-by ")
			if found {
				field = by
			}
			switch {
			case removed:
				if strings.Contains(after, gone) || !strings.Contains(before, gone) {
					t.Errorf("%q is still there\n%s", gone, after)
				}
			case carried:
				if !strings.Contains(after, text) || strings.Contains(before, text) {
					t.Errorf(
						"%q is not carried (before: %t)\n%s%s",
						text,
						strings.Contains(before, text),
						after,
						problems,
					)
				}
			case want == "lost":
				if problems != "" || !names(losses) {
					t.Errorf("no loss names it:\n%s%s", losses, problems)
				}
			case want == "refused":
				if !names(problems) || got.YAML != nil {
					t.Errorf("no problem names it:\n%s%s", problems, after)
				}
			case want == "same":
				if after != before || problems != "" || names(losses) {
					t.Errorf("something changed:\n%s%s%s", after, losses, problems)
				}
			default:
				t.Errorf("unknown outcome %q", want)
			}
			if strings.Contains(problems, "unknown field") {
				t.Error("a field of the format is unknown")
			}
		})
	}

	for field, base := range known {
		if !listed[field] && !strings.Contains(field, "additionalExtensions.") &&
			!strings.Contains(field, "annotations.") &&
			!strings.Contains(field, "transports.") {
			t.Errorf("%s (%s) is known to a reader, and has no line in testdata/fields.txt", field, base)
		}
	}

	if lines < 200 {
		t.Errorf("%d lines only", lines)
	}
}

// put sets a field; a step NAME[i] goes into a list. null removes it.
func put(t *testing.T, n *yaml.Node, path []string, text string) {
	t.Helper()
	var value yaml.Node
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}

	for i, step := range path {
		name, at, inList := strings.Cut(step, "[")
		var child *yaml.Node
		for j := 0; j+1 < len(n.Content); j += 2 {
			if n.Content[j].Value == name {
				child = n.Content[j+1]
			}
		}

		if child == nil {
			child = &yaml.Node{Kind: yaml.MappingNode}
			if inList {
				child.Kind = yaml.SequenceNode
			}
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, child)
		}

		if inList {
			k, _ := strconv.Atoi(strings.TrimSuffix(at, "]"))
			for len(child.Content) <= k {
				child.Content = append(child.Content, &yaml.Node{Kind: yaml.MappingNode})
			}

			child = child.Content[k]
		} else if child.Kind == yaml.SequenceNode && i < len(path)-1 {
			child = child.Content[0]
		}

		if i == len(path)-1 {
			*child = *value.Content[0]
		}
		n = child
	}
}
