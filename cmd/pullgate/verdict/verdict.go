// Package verdict asks a gate of its own about one image and shows what it
// answered. It decides nothing itself: the gate is the one that serve runs.
package verdict

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// Of returns the gate's verdict about an image for a client. The state is made in
// the folder dir and is the caller's to remove.
func Of(
	ctx context.Context,
	l *server.Loaded,
	dir string,
	image policy.Image,
	client policy.Client,
) (verify.Verdict, error) {
	gate, err := server.NewStandaloneGate(ctx, l, dir, nil)
	if err != nil {
		return verify.Verdict{}, err
	}

	_, v, err := gate.Manifest(ctx, l.Config.Image(image), client)
	return v, errors.Join(err, gate.Close())
}

// Text says what was tried and found, authority by authority, and where the policy
// stands in set, which may be nil.
func Text(v verify.Verdict, set *policy.Set) string {
	var b strings.Builder

	image := v.Image.String() + "@" + v.Digest.String()
	if v.Digest == "" { // decided before the registry was asked
		image = strings.TrimSuffix(v.Image.String()+":"+v.Tag, ":")
	}
	fmt.Fprintf(&b, "%s\n  %s by policy %q", image, v.Outcome, v.Policy)
	for _, p := range policiesOf(set) {
		if p.Name == v.Policy && !p.Where.IsZero() {
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

func policiesOf(set *policy.Set) []*policy.Policy {
	if set == nil {
		return nil
	}
	return set.Policies()
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

// JSON writes the verdict as an indented JSON object.
func JSON(w io.Writer, v verify.Verdict) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")

	return encoder.Encode(result{
		Image:    v.Image.String(),
		Digest:   v.Digest.String(),
		Outcome:  v.Outcome.String(),
		Policy:   v.Policy,
		Signer:   v.Signer,
		Reasons:  v.Reasons,
		Findings: v.Findings,
	})
}

// KeyConfig writes the smallest configuration that asks for a signature by one
// key, and returns its file in dir. url is the registry's; empty: https://HOST.
func KeyConfig(dir, key string, repo policy.Repository, url string) (string, error) {
	abs, err := filepath.Abs(key)
	if err != nil {
		return "", fmt.Errorf("find key %s: %w", key, err)
	}

	up := map[string]any{"host": repo.Host}
	if url != "" {
		up["url"] = url
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
