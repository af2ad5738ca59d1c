package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/imports"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

func importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import " + strings.Join(imports.Formats(), "|") + " FILE…",
		Short: "Turn the policies of another program into pullgate's",
		Long: `import reads policies and prints pullgate's own on stdout, as a policy file:

  clusterimagepolicy   sigstore policy-controller's ClusterImagePolicy
  kyverno              Kyverno's ClusterPolicy (verifyImages), ImageValidatingPolicy
  policy.json          containers-policy.json(5) of Podman, Buildah, CRI-O
  talos                Talos Linux's ImageVerificationConfig

What is not carried is listed on stderr, with file and line, and stands as a
comment where it was. What cannot be said as a list of which the first match
decides is an error that says what to write instead, and then nothing is
printed. Several files are one set of policies.

It exits 0 when policies were printed, 1 when something has to be changed
first, 2 when a file could not be read.`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeFirst(imports.Formats()),
		RunE: func(cmd *cobra.Command, args []string) error {
			var files []imports.File
			for _, name := range args[1:] {
				text, err := readSource(name)
				if err != nil {
					return fmt.Errorf("import: %w", err)
				}
				files = append(files, imports.File{Name: name, Text: text})
			}

			result := imports.Convert(args[0], files)
			if len(result.Problems) > 0 {
				show.Problems(cmd.ErrOrStderr(), result.Problems)
				return exit.With(exit.Denied, errors.New("nothing was imported; see above"))
			}

			for _, loss := range result.Losses {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s (not carried)\n", show.Printable(loss.String()))
			}
			_, err := cmd.OutOrStdout().Write(result.YAML)
			return err
		},
	}
}

// readSource reads a file, or as much of it as import needs to say that it is too
// large. A pipe is refused: opening one would wait for its writer.
func readSource(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file: write what it gives into one", name)
	}

	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, imports.MaxFile+1))
}
