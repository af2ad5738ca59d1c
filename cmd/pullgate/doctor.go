package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
	"github.com/pullgate/pullgate/cmd/pullgate/node"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

// doctorFlags are the flags of doctor that are not about the node.
type doctorFlags struct {
	config   string // file
	textfile string
	canary   string // to be made
	asJSON   bool
}

func doctorCommand() *cobra.Command {
	d := &node.Doctor{}
	var flags doctorFlags
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

--make-canary pushes a small image that runs nothing, for the gate's
configuration to name as its canary.

It exits 0 when all are held, 1 when one is not, 2 when that could not be told.`,
		Example: "  pullgate doctor --gate http://127.0.0.1:5000 --canary ghcr.io/acme/canary:v1\n" +
			"  pullgate doctor containerd --config /etc/pullgate/pullgate.yaml --json",
		ValidArgs: node.RuntimeNames(),
		RunE: func(cmd *cobra.Command, names []string) error {
			if flags.canary != "" {
				return newCanary(cmd, flags.canary)
			}
			return examine(cmd, d, names, flags)
		},
	}

	f := cmd.Flags()
	f.StringVar(&d.Gate, "gate", "", "the gate's `URL`, as the node reaches it")
	f.StringVar(&d.CA, "ca", "", "the `FILE` with the certificate authority of an https gate, besides the node's own")
	f.StringVar(&d.Cert, "cert", "", "the `FILE` with a client certificate, for a gate that asks for one")
	f.StringVar(&d.Key, "key", "", "the `FILE` with the certificate's key")
	f.StringVar(&d.Canary, "canary", "", "the canary `IMAGE`, as the gate's configuration names it")
	f.StringVar(&flags.canary, "make-canary", "", "only push a small `IMAGE` that can be the canary")
	f.StringVarP(&flags.config, "config", "c", "", "take both from the gate's configuration `FILE`")
	f.StringVar(&d.Root, "root", "/", "where the node's files are, e.g. `/host` in a container")
	f.DurationVar(&d.Timeout, "timeout", time.Minute, "for one pull")
	f.BoolVar(&flags.asJSON, "json", false, "print the findings as JSON")
	f.StringVar(&flags.textfile, "textfile", "", "also write Prometheus metrics into `FILE`")
	return cmd
}

// examine asks the gate and then each runtime for the canary.
func examine(cmd *cobra.Command, d *node.Doctor, names []string, flags doctorFlags) error {
	if flags.config != "" {
		if err := completeDoctor(d, flags.config); err != nil {
			return err
		}
	}
	if err := d.Check(); err != nil {
		return err
	}
	if err := d.CheckGate(cmd.Context()); err != nil {
		return err
	}
	chosen, err := node.ChooseRuntimes(names)
	if err != nil {
		return err
	}

	var found []node.Finding
	for _, r := range chosen {
		found = append(found, d.Examine(cmd.Context(), r))
	}

	printTo := printFindings
	if flags.asJSON {
		printTo = printFindingsJSON
	}
	if err := printTo(cmd.OutOrStdout(), found); err != nil {
		return err
	}
	if flags.textfile != "" {
		if err := node.WriteMetrics(flags.textfile, found, time.Now()); err != nil {
			return err
		}
	}
	return findingsError(found)
}

// newCanary makes an image and says what makes it the canary.
func newCanary(cmd *cobra.Command, image string) error {
	if err := makeCanary(cmd.Context(), image); err != nil {
		return err
	}

	const message = "pushed %[1]s: now write `canary: %[1]s` in the gate's configuration, then run " +
		"`pullgate doctor --gate URL --canary %[1]s` on a node\n"
	_, err := fmt.Fprintf(cmd.OutOrStdout(), message, image)
	return err
}

// completeDoctor takes what the flags did not say from the gate's configuration.
func completeDoctor(d *node.Doctor, file string) error {
	c, problems := config.Read(file, os.Environ())
	if len(problems) > 0 {
		return errors.New(problems[0].String())
	}

	scheme := "http://"
	if c.TLS.CertFile != "" {
		scheme = "https://"
	}
	if d.Gate == "" {
		d.Gate = scheme + c.Listen
	}
	if d.Canary == "" {
		d.Canary = c.Canary
	}
	if image, err := imagename.Parse(d.Canary); err == nil && c.Image(image) != image {
		d.Canary = c.Image(image).String()
	}
	return nil
}

func printFindingsJSON(w io.Writer, found []node.Finding) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(found)
}

func printFindings(w io.Writer, found []node.Finding) error {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%-12s %s\n             %s\n", f.Runtime, f.Outcome, f.Says)
		for _, a := range f.Advice {
			fmt.Fprintf(&b, "             configuration: %s\n", a)
		}
		if f.Outcome == node.Held || f.Command == "" {
			continue
		}

		fmt.Fprintf(&b, "             ran: %s\n", f.Command)
		for line := range strings.Lines(f.Output) {
			fmt.Fprintf(&b, "             | %s\n", show.Printable(strings.TrimRight(line, "\r\n")))
		}
	}

	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the findings: %w", err)
	}
	return nil
}

// findingsError is how doctor ends: one hole is a hole in the whole node.
func findingsError(found []node.Finding) error {
	if len(found) == 0 {
		return errors.New("no runtime was found: name one, e.g. `pullgate doctor podman`")
	}

	var loose, undecided []string
	for _, f := range found {
		switch f.Outcome {
		case node.Held:
		case node.Unknown:
			undecided = append(undecided, f.Runtime)
		default:
			loose = append(loose, f.Runtime)
		}
	}

	switch {
	case len(loose) > 0:
		return exit.With(exit.Denied, fmt.Errorf("not held by the gate: %s; `pullgate node-config` prints what holds",
			strings.Join(loose, ", ")))
	case len(undecided) > 0:
		return fmt.Errorf("could not be told: %s", strings.Join(undecided, ", "))
	}
	return nil
}
