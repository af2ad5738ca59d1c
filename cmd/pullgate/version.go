package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version [--json]",
		Short: "Print the version",
		Long: `version prints the version of this program, that of Go, and the platform. --json
adds the commit that it was built from and that commit's time, where the build
knew them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !asJSON {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
				return err
			}

			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(version.Read())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything that is known of this build as JSON")
	return cmd
}

// versionLine is what version and --version print.
func versionLine() string {
	i := version.Read()
	return fmt.Sprintf("pullgate %s %s %s/%s", i.Version, i.Go, i.OS, i.Arch)
}
