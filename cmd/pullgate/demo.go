package main

import (
	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/demo"
)

func demoCommand() *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the gate admit signed images and refuse an unsigned one",
		Long: `demo starts a registry in this process with three images: one signed, one signed
for two platforms, one unsigned, all under a key made for the occasion. It puts
the gate before it, pulls each, shows what happened, and stays up so that you
can try your own client. Everything is on 127.0.0.1 and gone when it ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := demo.Demo{Out: cmd.OutOrStdout(), Stay: !once}
			return d.Run(cmd.Context())
		},
	}

	cmd.Flags().BoolVar(&once, "once", false, "leave after the pulls")
	return cmd
}
