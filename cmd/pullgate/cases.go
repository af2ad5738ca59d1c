package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

func testCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test CASES [--config FILE]",
		Short: "Try a configuration against cases, for a team's CI",
		Long: `test decides about each image of a file of cases with the very code that serve
runs, and compares policy and outcome with what the case expects:

  cases:
    - image: ghcr.io/acme/app:v1      # or @sha256:…
      recorded: app-v1.json           # made with: pullgate verify IMAGE --record app-v1.json
      policy: ours
      outcome: allowed                # allowed | denied | warned | warned_unverified
    - image: ghcr.io/acme/other:v1    # without recorded: the registry is asked
      client: 10.1.2.3                # who asks; optional
      outcome: denied
      reason: no signature found      # part of a denial's text; optional

It prints every case that went otherwise and exits 0 when all went as expected,
1 when one did not, 2 when one could not be told.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, problems := load(file, telemetry.None())
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			cases, err := readCases(args[0])
			if err != nil {
				return exit.With(exit.Denied, err)
			}
			return runCases(cmd.Context(), l, cases, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	return cmd
}

type testCase struct {
	Image    string `yaml:"image"`
	Recorded string `yaml:"recorded"`
	Client   string `yaml:"client"`
	Policy   string `yaml:"policy"`
	Outcome  string `yaml:"outcome"`
	Reason   string `yaml:"reason"`

	where string
}

var outcomes = []string{
	verify.Allowed.String(),
	verify.Denied.String(),
	verify.Warned.String(),
	verify.WarnedUnverified.String(),
}

func readCases(file string) ([]testCase, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", err)
	}
	var doc struct {
		Cases []yaml.Node `yaml:"cases"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(doc.Cases) == 0 {
		return nil, fmt.Errorf("%s holds no cases: a test that tries nothing proves nothing", file)
	}
	var cases []testCase
	for _, node := range doc.Cases {
		c := testCase{where: fmt.Sprintf("%s:%d", file, node.Line)}
		if err := strictDecode(&node, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.where, err)
		}
		if c.Image == "" || !slices.Contains(outcomes, c.Outcome) {
			return nil, fmt.Errorf(
				"%s: a case needs image, and outcome as one of %s",
				c.where,
				strings.Join(outcomes, ", "),
			)
		}
		if c.Recorded != "" && !filepath.IsAbs(c.Recorded) {
			c.Recorded = filepath.Join(filepath.Dir(file), c.Recorded)
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// strictDecode refuses fields it does not know, which a node's own Decode takes.
func strictDecode(node *yaml.Node, into any) error {
	text, err := yaml.Marshal(node)
	if err != nil {
		return fmt.Errorf("read case: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	return decoder.Decode(into)
}

func runCases(ctx context.Context, l *loaded, cases []testCase, out io.Writer) error {
	wrong, untold := 0, 0
	for _, c := range cases {
		v, err := c.decide(ctx, l)
		if err != nil {
			untold++
			fmt.Fprintf(out, "%s: %s: could not tell: %v\n", c.where, c.Image, err)
			continue
		}
		if problem := c.compare(v); problem != "" {
			wrong++
			fmt.Fprintf(out, "%s: %s: %s\n%s", c.where, c.Image, problem, describe(v, l.policies))
		}
	}
	fmt.Fprintf(out, "%s, %d as expected\n", show.Counted(len(cases), "case"), len(cases)-wrong-untold)
	switch {
	case wrong > 0:
		return exit.With(exit.Denied, fmt.Errorf("%d of %d cases went otherwise", wrong, len(cases)))
	case untold > 0:
		return fmt.Errorf("%d of %d cases could not be told", untold, len(cases))
	}
	return nil
}

func (c testCase) decide(ctx context.Context, l *loaded) (verify.Verdict, error) {
	image, err := imagename.Parse(c.Image)
	if err != nil {
		return verify.Verdict{}, err
	}
	dir, err := os.MkdirTemp("", "pullgate-test-")
	if err != nil {
		return verify.Verdict{}, fmt.Errorf("make a folder for the state: %w", err)
	}
	defer os.RemoveAll(dir)
	one := *l
	if c.Recorded != "" {
		from, err := readRecording(c.Recorded)
		if err != nil {
			return verify.Verdict{}, err
		}
		one.wrap = func(verify.Registry) verify.Registry { return replayer{from} }
	}
	gate, done, err := one.alone(ctx, dir, nil)
	if err != nil {
		return verify.Verdict{}, err
	}
	_, v, err := gate.Manifest(ctx, image, policy.Client{Addr: c.Client})
	return v, errors.Join(err, done())
}

// compare says what is not as expected, or nothing.
func (c testCase) compare(v verify.Verdict) string {
	switch {
	case v.Outcome.String() != c.Outcome:
		return fmt.Sprintf("%s, expected %s", v.Outcome, c.Outcome)
	case c.Policy != "" && v.Policy != c.Policy:
		return fmt.Sprintf("policy %q decided, expected %q", v.Policy, c.Policy)
	case c.Reason != "" && !strings.Contains(v.Message(), c.Reason):
		return fmt.Sprintf("the reason does not say %q", c.Reason)
	}
	return ""
}
