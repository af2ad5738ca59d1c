// Package cases tries a configuration against a file of cases, for a team's CI:
// each names an image and says what the gate should decide about it.
package cases

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// Case is one image and what is expected of it. A recording, if there is one,
// stands in for the registry.
type Case struct {
	Image    string `yaml:"image"`
	Recorded string `yaml:"recorded"`
	Client   string `yaml:"client"`
	Policy   string `yaml:"policy"`
	Outcome  string `yaml:"outcome"`
	Reason   string `yaml:"reason"`

	where  string
	client policy.Client
}

// outcomes returns what a case may expect.
func outcomes() []string {
	return []string{
		verify.Allowed.String(),
		verify.Denied.String(),
		verify.Warned.String(),
		verify.WarnedUnverified.String(),
	}
}

// Read reads a file of cases; it holds at least one.
func Read(file string) ([]Case, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}

	var doc struct {
		Cases []yaml.Node `yaml:"cases"`
	}
	if err := strictDecode(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Cases) == 0 {
		return nil, fmt.Errorf("%s holds no cases: a test that tries nothing proves nothing", file)
	}

	var cases []Case
	for _, node := range doc.Cases {
		c, err := readCase(file, &node)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, node.Line, err)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

func readCase(file string, node *yaml.Node) (Case, error) {
	// A node's own Decode takes fields that it does not know.
	text, err := yaml.Marshal(node)
	if err != nil {
		return Case{}, fmt.Errorf("read case: %w", err)
	}
	c := Case{where: fmt.Sprintf("%s:%d", file, node.Line)}
	if err := strictDecode(text, &c); err != nil {
		return Case{}, err
	}

	if c.Image == "" || !slices.Contains(outcomes(), c.Outcome) {
		const needs = "a case needs image, and outcome as one of %s"
		return Case{}, fmt.Errorf(needs, strings.Join(outcomes(), ", "))
	}
	if c.Client != "" {
		if c.client, err = policy.ParseClient(c.Client); err != nil {
			return Case{}, fmt.Errorf("client: %w", err)
		}
	}
	if c.Recorded != "" && !filepath.IsAbs(c.Recorded) {
		c.Recorded = filepath.Join(filepath.Dir(file), c.Recorded)
	}
	return c, nil
}

// strictDecode decodes the first document of text and refuses unknown fields.
func strictDecode(text []byte, into any) error {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	return decoder.Decode(into)
}
