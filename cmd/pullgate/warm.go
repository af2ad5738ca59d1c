package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

func warmCommand() *cobra.Command {
	var file, gateURL string
	cmd := &cobra.Command{
		Use:   "warm IMAGE… [--config FILE] [--gate URL]",
		Short: "Let the gate learn images before anybody pulls them",
		Long: `warm asks the running gate for each image's manifests, as a client would, so that
verdicts are made and the parts are known before the first pull. Without --gate
it asks the address the configuration listens on; when nothing answers there, it
opens the state itself.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, images []string) error {
			l, problems := load(file, telemetry.None())
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			ask, done, err := l.asker(cmd.Context(), gateURL)
			if err != nil {
				return err
			}
			var failed error
			for _, image := range images {
				n, err := warmOne(cmd.Context(), ask, image)
				if err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s: %w", image, err))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: admitted, %s known\n", image, show.Counted(n, "manifest"))
			}
			err = errors.Join(failed, done())
			if err != nil && onlyDenied(failed) {
				return exit.With(exit.Denied, err)
			}
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&gateURL, "gate", "", "the running gate's `URL`, e.g. http://127.0.0.1:5000")
	return cmd
}

// asker fetches one admitted manifest, or says why not.
type asker func(ctx context.Context, image policy.Image) ([]byte, error)

// asker prefers the running gate; alone, it is the gate.
func (l *loaded) asker(ctx context.Context, gateURL string) (asker, func() error, error) {
	given := gateURL != ""
	if !given {
		if l.config.TLS.CertFile != "" {
			return nil, nil, errors.New(
				"the gate has a certificate: give --gate https://NAME:PORT with the name it is for",
			)
		}
		gateURL = "http://" + l.config.Listen
	}
	gateURL = strings.TrimSuffix(gateURL, "/")
	client := &http.Client{Timeout: l.config.Limits.VerifyTimeout + 5*time.Second}
	ask := func(ctx context.Context, image policy.Image) ([]byte, error) {
		return askGate(ctx, client, gateURL, image, l.config.Limits.ManifestBytes)
	}
	if given || answers(ctx, client, gateURL) {
		return ask, func() error { return nil }, nil
	}
	gate, done, err := l.alone(ctx, l.config.path(l.config.State.Path), nil)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, image policy.Image) ([]byte, error) {
		m, v, err := gate.Manifest(ctx, image, policy.Client{})
		if err == nil && !v.Admitted() {
			err = &refusal{v.Message()}
		}
		return m.Bytes, err
	}, done, nil
}

// refusal is a denial, as against an answer that could not be had.
type refusal struct{ message string }

func (r *refusal) Error() string { return r.message }

// onlyDenied reports whether every error in err is a refusal.
func onlyDenied(err error) bool {
	var list interface{ Unwrap() []error }
	if errors.As(err, &list) {
		for _, e := range list.Unwrap() {
			if !onlyDenied(e) {
				return false
			}
		}
		return true
	}
	var r *refusal
	return errors.As(err, &r)
}

func answers(ctx context.Context, client *http.Client, gateURL string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, gateURL+"/v2/", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil
}

func askGate(
	ctx context.Context,
	client *http.Client,
	gateURL string,
	image policy.Image,
	limit size,
) ([]byte, error) {
	url := fmt.Sprintf("%s/v2/%s/manifests/%s?ns=%s", gateURL, image.Path, image.Reference, image.Host)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gate: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read the gate's answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var envelope struct {
		Errors []struct{ Message string } `json:"errors"`
	}
	text := http.StatusText(resp.StatusCode)
	if json.Unmarshal(body, &envelope) == nil && len(envelope.Errors) > 0 {
		text = envelope.Errors[0].Message
	}
	if resp.StatusCode == http.StatusForbidden {
		return nil, &refusal{text}
	}
	return nil, fmt.Errorf("the gate answered %d: %s", resp.StatusCode, text)
}

// warmOne asks for the image and every manifest below it.
func warmOne(ctx context.Context, ask asker, name string) (int, error) {
	image, err := imagename.Parse(name)
	if err != nil {
		return 0, err
	}
	seen := map[digest.Digest]bool{}
	var walk func(image policy.Image, depth int) error
	walk = func(image policy.Image, depth int) error {
		body, err := ask(ctx, image)
		if err != nil {
			return err
		}
		seen[digest.FromBytes(body)] = true
		var index struct {
			Manifests []oci.Descriptor `json:"manifests"`
		}
		if err := json.Unmarshal(body, &index); err != nil {
			return fmt.Errorf("read %s: %w", image.Reference, err)
		}
		for _, child := range index.Manifests {
			if depth < 3 && !seen[child.Digest] {
				if err := walk(image.At(child.Digest), depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err = walk(image, 0)
	return len(seen), err
}
