package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
)

// What doctor finds out about one runtime.
const (
	held     = "held"      // refused by the gate
	bypassed = "BYPASSED"  // the pull succeeded: something else served it
	notAsked = "NOT ASKED" // the pull failed, and the gate knows nothing of it
	unknown  = "UNKNOWN"   // the runtime could not be tried
)

func doctorCommand() *cobra.Command {
	d := &doctor{}
	var asJSON bool
	var configFile, textfile string
	cmd := &cobra.Command{
		Use:   "doctor [RUNTIME…] --gate URL --canary IMAGE",
		Short: "Find out, on a node, whether its runtimes can get around the gate",
		Long: `doctor reads each runtime's configuration, then pulls the canary through the
runtime itself. The canary is an image that exists at its registry and that the
gate always refuses (canary: in its configuration). Per runtime it says

  held        the gate refused it: as it should be
  BYPASSED    the pull succeeded, so the runtime went around the gate
  NOT ASKED   the pull failed, but not at the gate: a pull of a good image fails too
  UNKNOWN     the runtime could not be tried

It tries containerd, docker, podman, buildah, skopeo, buildkit, nerdctl and
crictl where they are found, or those that are named, and needs the rights to
pull with them. With --config (the gate's own, where it runs on this node)
--gate and --canary are taken from there. --textfile writes metrics for
Prometheus' textfile collector, where a timer runs doctor.

It exits 0 when all are held, 1 when one is not, 2 when that could not be told.`,
		Example: "  pullgate doctor --gate http://127.0.0.1:5000 --canary ghcr.io/acme/canary:v1\n" +
			"  pullgate doctor containerd --config /etc/pullgate/pullgate.yaml --json",
		RunE: func(cmd *cobra.Command, names []string) error {
			if configFile != "" {
				if err := d.from(configFile); err != nil {
					return exit.With(exit.Denied, err)
				}
			}
			if err := d.check(cmd.Context()); err != nil {
				return err
			}
			chosen, err := chooseRuntimes(names)
			if err != nil {
				return err
			}
			var found []finding
			for _, r := range chosen {
				found = append(found, d.examine(cmd.Context(), r))
			}
			if err := printFindings(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if textfile != "" {
				if err := writeTextfile(textfile, found, time.Now()); err != nil {
					return err
				}
			}
			return verdictOf(found)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.gate, "gate", "", "the gate's `URL`, as the node reaches it")
	f.StringVar(&d.ca, "ca", "", "the `FILE` with the certificate authority of an https gate, besides the node's own")
	f.StringVar(&d.canary, "canary", "", "the canary `IMAGE`, as the gate's configuration names it")
	f.StringVarP(&configFile, "config", "c", "", "take both from the gate's configuration `FILE`")
	f.StringVar(&d.root, "root", "/", "where the node's files are, e.g. `/host` in a container")
	f.DurationVar(&d.timeout, "timeout", time.Minute, "for one pull")
	f.BoolVar(&asJSON, "json", false, "print the findings as JSON")
	f.StringVar(&textfile, "textfile", "", "also write Prometheus metrics into `FILE`")
	return cmd
}

// doctor is one examination of one node.
type doctor struct {
	gate, canary, root string
	ca                 string // PEM file, or ""
	timeout            time.Duration
	image              policy.Image // the canary
	client             *http.Client // for the gate alone
}

// finding is what came of one runtime.
type finding struct {
	Runtime string   `json:"runtime"`
	Outcome string   `json:"outcome"`
	Says    string   `json:"says"`              // what it means
	Advice  []string `json:"advice,omitempty"`  // what its configuration lacks
	Command string   `json:"command,omitempty"` // what was run
	Output  string   `json:"output,omitempty"`  // the end of what it printed
}

func (d *doctor) from(file string) error {
	c, problems := config.Read(file, os.Environ())
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}
	scheme := "http://"
	if c.TLS.CertFile != "" {
		scheme = "https://"
	}
	if d.gate == "" {
		d.gate = scheme + c.Listen
	}
	if d.canary == "" {
		d.canary = c.Canary
	}
	return nil
}

// check asks the gate for the canary itself: without a refusal there, nothing
// a runtime does would mean anything.
func (d *doctor) check(ctx context.Context) error {
	if d.gate == "" || d.canary == "" {
		return exit.With(
			exit.Denied,
			errors.New(
				"give --gate and --canary, or --config; an admin sets `canary: IMAGE` in the gate's configuration",
			))
	}
	if u, err := url.Parse(d.gate); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return exit.With(exit.Denied, fmt.Errorf("--gate %q is no URL: write http://127.0.0.1:5000", d.gate))
	}
	d.gate = strings.TrimSuffix(d.gate, "/")
	var err error
	if d.image, err = imagename.Parse(d.canary); err != nil {
		return exit.With(exit.Denied, err)
	}
	if d.client, err = clientTrusting(d.ca); err != nil {
		return exit.With(exit.Denied, fmt.Errorf("--ca: %w", err))
	}
	if _, err := d.asked(ctx); err != nil {
		return fmt.Errorf("the gate at %s: %w", d.gate, err)
	}
	return nil
}

// clientTrusting asks over https whom the system trusts, and who is certified in file.
func clientTrusting(file string) (*http.Client, error) {
	if file == "" {
		return http.DefaultClient, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // none here: the file alone
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return &http.Client{Transport: transport}, nil
}

// asked is how often this node has asked for the canary, this time included.
func (d *doctor) asked(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	at := fmt.Sprintf("%s/v2/%s/manifests/%s?ns=%s", d.gate, d.image.Path, d.image.Reference, url.QueryEscape(d.image.Host))
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
	if err != nil {
		return 0, fmt.Errorf("ask for the canary: %w", err)
	}
	resp, err := d.client.Do(req)
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted) && d.ca == "":
		return 0, fmt.Errorf("ask for the canary: %w: name the gate's certificate authority with --ca", err)
	case err != nil:
		return 0, fmt.Errorf("ask for the canary: %w", err)
	}
	_ = resp.Body.Close()
	n, err := strconv.Atoi(resp.Header.Get("Pullgate-Canary"))
	if err != nil || resp.StatusCode != http.StatusForbidden {
		return 0, fmt.Errorf(
			"it does not refuse %s as its canary (it answered %s): set `canary: %s` in its configuration",
			d.canary,
			resp.Status,
			d.canary,
		)
	}
	return n, nil
}

// examine reads one runtime's configuration and pulls the canary through it.
func (d *doctor) examine(ctx context.Context, r nodeRuntime) finding {
	f := finding{Runtime: r.name, Outcome: unknown}
	if r.lint != nil {
		f.Advice = r.lint(d)
	}
	before, err := d.asked(ctx)
	if err != nil {
		f.Says = err.Error()
		return f
	}
	result := d.try(ctx, r, d.canary)
	f.Command, f.Output = result.command, result.output
	switch {
	case result.pulled:
		f.Outcome, f.Says = bypassed, "it pulled the canary, which the gate never serves: what runs here is not "+
			"what the gate has admitted"
		return f
	case result.unusable != "":
		f.Says = result.unusable
		return f
	}
	if r.byName { // where no file holds it, images are named through the gate
		gate, err := url.Parse(d.gate)
		if err != nil {
			f.Says = err.Error()
			return f
		}
		named := d.try(ctx, r, gate.Host+"/"+d.image.String())
		f.Command, f.Output = named.command, named.output
		if named.pulled {
			f.Outcome, f.Says = bypassed, "it pulled the canary by the gate's own name: another registry answers there"
			return f
		}
	}
	after, err := d.asked(ctx)
	switch {
	case err != nil:
		f.Says = err.Error()
	case after > before+1: // one more than this program's own question
		f.Outcome, f.Says = held, "the gate refused the canary, and the pull ended there"
	default:
		f.Outcome, f.Says = notAsked, "the pull failed, but the gate was not asked: admitted images cannot be "+
			"pulled through it either"
	}
	return f
}

func printFindings(w io.Writer, found []finding, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(found)
	}
	for _, f := range found {
		fmt.Fprintf(w, "%-12s %s\n             %s\n", f.Runtime, f.Outcome, f.Says)
		for _, a := range f.Advice {
			fmt.Fprintf(w, "             configuration: %s\n", a)
		}
		if f.Outcome != held && f.Command != "" {
			fmt.Fprintf(w, "             ran: %s\n", f.Command)
			for line := range strings.Lines(f.Output) {
				fmt.Fprintf(w, "             | %s\n", show.Printable(strings.TrimRight(line, "\r\n")))
			}
		}
	}
	return nil
}

// writeTextfile writes for node_exporter's textfile collector: whole or not at all.
func writeTextfile(file string, found []finding, now time.Time) error {
	var b strings.Builder
	b.WriteString(
		"# HELP pullgate_doctor_held 1 when the runtime's pulls end at the gate, 0 when they get around it or " +
			"cannot be told.\n# TYPE pullgate_doctor_held gauge\n",
	)
	for _, f := range found {
		value := 0
		if f.Outcome == held {
			value = 1
		}
		fmt.Fprintf(
			&b,
			"pullgate_doctor_held{runtime=%q,outcome=%q} %d\n",
			f.Runtime,
			strings.ToLower(strings.ReplaceAll(f.Outcome, " ", "_")),
			value,
		)
	}
	fmt.Fprintf(
		&b,
		"# HELP pullgate_doctor_run_timestamp_seconds When doctor last ran.\n"+
			"# TYPE pullgate_doctor_run_timestamp_seconds gauge\npullgate_doctor_run_timestamp_seconds %d\n",
		now.Unix(),
	)
	next := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(next, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return os.Rename(next, file)
}

// verdictOf is the whole node's: one hole is a hole.
func verdictOf(found []finding) error {
	if len(found) == 0 {
		return errors.New("no runtime was found: name one, e.g. `pullgate doctor podman`")
	}
	var loose, untold []string
	for _, f := range found {
		switch f.Outcome {
		case held:
		case unknown:
			untold = append(untold, f.Runtime)
		default:
			loose = append(loose, f.Runtime)
		}
	}
	switch {
	case len(loose) > 0:
		return exit.With(
			exit.Denied,
			fmt.Errorf("not held by the gate: %s; `pullgate node-config` prints what holds", strings.Join(loose, ", ")))

	case len(untold) > 0:
		return fmt.Errorf("could not be told: %s", strings.Join(untold, ", "))
	}
	return nil
}
