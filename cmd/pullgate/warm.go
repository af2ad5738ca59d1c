package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/cmd/pullgate/warm"
)

func warmCommand() *cobra.Command {
	var file, url string
	cmd := &cobra.Command{
		Use:   "warm IMAGE… [--config FILE] [--gate URL]",
		Short: "Let the gate learn images before anybody pulls them",
		Long: `warm asks the running gate for each image's manifests, as a client would, so that
verdicts are made and the parts are known before the first pull. Without --gate
it asks the address the configuration listens on; when nothing answers there, it
opens the state itself.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeImages,
		RunE: func(cmd *cobra.Command, images []string) error {
			l, err := load(cmd, file)
			if err != nil {
				return err
			}
			gate, err := warm.Find(cmd.Context(), l, url)
			if err != nil {
				return err
			}

			var failed error
			for _, image := range images {
				n, err := gate.Image(cmd.Context(), image)
				if err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s: %w", image, err))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: admitted, %s known\n", image, show.Counted(n, "manifest"))
			}

			err = errors.Join(failed, gate.Close())
			if err != nil && warm.OnlyDenied(failed) {
				return exit.With(exit.Denied, err)
			}
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&url, "gate", "", "the running gate's `URL`, e.g. http://127.0.0.1:5000")
	return cmd
}
