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
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine is what version and --version print.
func versionLine() string {
	return fmt.Sprintf("pullgate %s %s %s/%s", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
