package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

func verifyCommand() *cobra.Command {
	var file, key, record string
	var plain, asJSON bool
	cmd := &cobra.Command{
		Use:   "verify IMAGE [--config FILE | --key FILE]",
		Short: "Say what the gate would decide about an image, and why",
		Long: `verify asks the registry itself, finds the image's signatures and decides with the
very code that serve runs. With --key it asks for a signature by that public
key (cosign.pub); with --config it uses that file's upstreams and policies.

It exits 0 when the image would be admitted, 1 when it would be refused, 2 when
that could not be told.`,
		Example: "  pullgate verify ghcr.io/acme/app:v1 --key cosign.pub\n" +
			"  pullgate verify ghcr.io/acme/app:v1 --config pullgate.yaml --json",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if (file == "") == (key == "") {
				return errors.New("give either --config or --key")
			}
			image, err := imagename.Parse(args[0])
			if err != nil {
				return err
			}
			dir, err := os.MkdirTemp("", "pullgate-verify-")
			if err != nil {
				return fmt.Errorf("make a folder for the state: %w", err)
			}
			defer os.RemoveAll(dir)
			environ := os.Environ()
			if key != "" {
				environ = nil
				if file, err = keyConfig(dir, key, image.Repository, plain); err != nil {
					return err
				}
			}
			l, problems := loadOver(file, environ, telemetry.None(), nil)
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			if record != "" {
				into, mu := newRecording(), &sync.Mutex{}
				l.wrap = func(r verify.Registry) verify.Registry { return &recorder{r, mu, into} }
				defer func() {
					if werr := into.write(record); werr != nil {
						err = errors.Join(err, werr)
					}
				}()
			}
			return verifyOne(cmd.Context(), l, filepath.Join(dir, "state"), image, asJSON, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "the configuration `FILE`")
	cmd.Flags().StringVar(&key, "key", "", "a public key `FILE` in PEM")
	cmd.Flags().BoolVar(&plain, "plain-http", false, "with --key: speak http to the registry")
	cmd.Flags().StringVar(
		&record,
		"record",
		"",
		"write what the registry answered into `FILE`, for the cases of pullgate test",
	)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the verdict as JSON")
	return cmd
}

// keyConfig writes the smallest configuration that asks for a signature by one key.
func keyConfig(dir, key string, repo policy.Repository, plain bool) (string, error) {
	abs, err := filepath.Abs(key)
	if err != nil {
		return "", fmt.Errorf("find key %s: %w", key, err)
	}
	up := map[string]any{"host": repo.Host}
	if plain {
		up["url"] = "http://" + repo.Host
	}
	text, err := yaml.Marshal(map[string]any{
		"upstreams": []any{up},
		"policies": []any{map[string]any{
			"name":        "--key",
			"images":      []string{repo.String()},
			"authorities": []any{map[string]any{"key": abs}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	file := filepath.Join(dir, "pullgate.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

// result is what verify prints as JSON.
type result struct {
	Image   string          `json:"image"`
	Digest  string          `json:"digest"`
	Outcome string          `json:"outcome"`
	Policy  string          `json:"policy"`
	Signer  string          `json:"signer,omitempty"`
	Reasons []verify.Reason `json:"reasons,omitempty"`

	Findings []verify.Finding `json:"findings,omitempty"`
}

func verifyOne(
	ctx context.Context,
	l *loaded,
	state string,
	image policy.Image,
	asJSON bool,
	out io.Writer,
) error {
	gate, done, err := l.alone(ctx, state, nil)
	if err != nil {
		return err
	}
	_, v, err := gate.Manifest(ctx, image, policy.Client{})
	if err = errors.Join(err, done()); err != nil {
		return fmt.Errorf("could not tell about %s: %w", image.Repository, err)
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(result{
			v.Image.String(),
			v.Digest.String(),
			v.Outcome.String(),
			v.Policy,
			v.Signer,
			v.Reasons,
			v.Findings,
		})
	} else {
		_, err = io.WriteString(out, describe(v, l.policies))
	}
	if err != nil {
		return fmt.Errorf("print the verdict: %w", err)
	}
	if !v.Admitted() {
		return exit.With(exit.Denied, errors.New("refused"))
	}
	return nil
}

// describe prints what was tried and found, authority by authority.
func describe(v verify.Verdict, set *policy.Set) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s@%s\n  %s by policy %q", v.Image, v.Digest, v.Outcome, v.Policy)
	for _, p := range set.Policies() {
		if p.Name == v.Policy {
			fmt.Fprintf(&b, " (%s)", p.Where)
		}
	}
	b.WriteString("\n")
	if v.Signer != "" {
		fmt.Fprintf(&b, "  by %s\n", v.Signer)
	}
	if len(v.Findings) > 1 { // one alone is the signer, or the reason
		for _, f := range v.Findings {
			mark := "not passed"
			if f.Passed {
				mark = "passed"
			}
			fmt.Fprintf(&b, "  %s: %s: %s\n", f.Authority, mark, f.Detail)
		}
	}
	for _, r := range v.Reasons {
		if r.Authority != "" {
			fmt.Fprintf(&b, "  authority %q: %s\n", r.Authority, r.Text)
		} else {
			fmt.Fprintf(&b, "  %s\n", r.Text)
		}
	}
	return b.String()
}
