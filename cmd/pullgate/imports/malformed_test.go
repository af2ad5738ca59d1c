package imports

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestMalformed puts something else in the place of every node of every
// example: what comes of it is policies or problems, each with its line.
func TestMalformed(t *testing.T) {
	paths, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}

	tried, refusals := 0, 0
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || info.IsDir() || strings.HasSuffix(path, ".golden") || strings.HasSuffix(path, ".txt") {
			continue
		}

		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(source), "\n---\n") {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(document), &doc); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			nodes(&doc, func(n *yaml.Node) {
				kept := *n
				for _, other := range []yaml.Node{
					{Kind: yaml.ScalarNode, Value: "x"},
					{Kind: yaml.ScalarNode, Tag: "!!str", Value: ""},
					{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"},
					{Kind: yaml.ScalarNode, Value: "-1"},
					{Kind: yaml.SequenceNode},
					{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "x"}}},
					{Kind: yaml.MappingNode},
				} {
					*n = other
					text, err := yaml.Marshal(&doc)
					if err != nil {
						continue // no YAML any more, such as a list as a name
					}
					result := Convert(formatOf(path), []File{{"f", text}})
					tried++
					if len(result.Problems) > 0 {
						refusals++
					}
					if (result.YAML == nil) != (len(result.Problems) > 0) {
						t.Errorf(
							"%s: %d problems and %d bytes of policies:\n%s",
							path,
							len(result.Problems),
							len(result.YAML),
							text,
						)
					}
					if result.YAML != nil && strings.Contains(string(result.YAML), "images: []") {
						t.Errorf("%s: a policy without images:\n%s", path, result.YAML)
					}
				}
				*n = kept
			})
		}
	}

	if tried < 1000 || refusals < 500 {
		t.Errorf("%d tried, %d refused", tried, refusals)
	}

	for _, text := range []string{
		"",
		"\x00",
		"- - -",
		"a: &a [*a]",
		"{",
		strings.Repeat("[", 20000),
		"a: b: c",
		"a: 1\na: 2",
		"\t",
	} {
		for _, format := range append(Formats(), "nonsense") {
			if result := Convert(format, []File{{"f", []byte(text)}}); len(result.Problems) == 0 || result.YAML != nil {
				t.Errorf("%s takes %.20q", format, text)
			}
		}
	}
}

func nodes(n *yaml.Node, visit func(*yaml.Node)) {
	for _, child := range n.Content {
		nodes(child, visit)
	}
	if n.Kind != yaml.DocumentNode {
		visit(n)
	}
}
