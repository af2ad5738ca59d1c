// Command pullgate is a registry proxy that lets only images with a trusted
// cosign signature through.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

func main() {
	ctx, stop := untilInterrupted(context.Background())
	defer stop()

	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		show.Error(os.Stderr, err)
		os.Exit(exit.Code(err))
	}
}

// untilInterrupted returns a context that ends with an interrupt or SIGTERM. A second
// interrupt ends the process at once: what is under way may take long to end. A
// second SIGTERM does not, because supervisors may send several.
func untilInterrupted(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) })
	return ctx, stop
}

const manual = `pullgate stands between container runtimes and registries, and lets only images
through that carry a cosign signature you trust.

A signature is a small file that an image's maker writes into the registry
beside the image, with a private key only the maker has. With the public key
anyone can check that exactly these bytes came from that maker. Runtimes do not
check; pullgate does, for every runtime that pulls through it. An image without
a signature that your policy trusts is answered with 403 and the reason.

  pullgate demo                     see it work: nothing but this program needed
  pullgate check --config FILE      is my configuration right?
  pullgate serve --config FILE      run the gate
  pullgate generate-key-pair        make a key to sign with
  pullgate sign --key FILE IMAGE    sign an image
  pullgate verify IMAGE --key FILE  what would the gate say about this image?
  pullgate explain IMAGE            why did the gate decide as it did?
  pullgate replay --config NEW      what would another configuration change?
  pullgate node-config RUNTIME      the files that hold a runtime to the gate
  pullgate doctor                   can this node get around the gate?
  pullgate import FORMAT FILE       turn another program's policies into pullgate's
  pullgate test CASES               does my configuration still decide as it should?
  pullgate warm IMAGE               let the gate learn an image before the first pull

Point a runtime at the gate by naming images through it
(gate.example:5000/ghcr.io/acme/app), or by its mirror configuration; see the
README for each runtime, and for why an ordinary mirror entry is not enough.`

// run runs one command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use:           "pullgate",
		Short:         "A registry proxy that lets only images with a trusted cosign signature through",
		Long:          manual,
		Version:       versionLine(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("{{.Version}}\n")

	root.AddCommand(
		serveCommand(),
		demoCommand(),
		checkCommand(),
		verifyCommand(),
		testCommand(),
		warmCommand(),
		explainCommand(),
		replayCommand(),
		generateKeyPairCommand(),
		caCommand(),
		signCommand(),
		nodeConfigCommand(),
		importCommand(),
		doctorCommand(),
		manCommand(),
		versionCommand(),
	)

	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}
