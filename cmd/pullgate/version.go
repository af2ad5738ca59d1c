package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(
				cmd.OutOrStdout(),
				"pullgate %s %s %s/%s\n",
				version.String(),
				runtime.Version(),
				runtime.GOOS,
				runtime.GOARCH,
			)
			return err
		},
	}
}
