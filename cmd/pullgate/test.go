package main

import (
	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/cases"
)

func testCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "test CASES [--config FILE]",
		Short: "Try a configuration against cases, for a team's CI",
		Long: `test decides about each image of a file of cases with the very code that serve
runs, and compares policy and outcome with what the case expects:

  cases:
    - image: ghcr.io/acme/app:v1      # or @sha256:…
      recorded: app-v1.json           # made with: pullgate verify IMAGE --record app-v1.json
      policy: ours
      outcome: allowed                # allowed | denied | warned | warned_unverified
    - image: ghcr.io/acme/other:v1    # without recorded: the registry is asked
      client: user:ci                 # who asks: a name with its kind, or an address; optional
      outcome: denied
      reason: no signature found      # part of a denial's text; optional

It prints every case that went otherwise and exits 0 when all went as expected,
1 when one did not, 2 when one could not be told, or the cases or the
configuration could not be read.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := load(cmd, file)
			if err != nil {
				return err
			}
			list, err := cases.Read(args[0])
			if err != nil {
				return err
			}

			return cases.Run(cmd.Context(), l, list, cmd.OutOrStdout())
		},
	}
	configFlag(cmd, &file)
	return cmd
}
