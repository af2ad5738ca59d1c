package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/policy"
)

func checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Say everything that is wrong with a configuration",
		Long: `check loads the configuration, its policies and its keys as serve would, asks no
registry, and prints every problem at once with its file and line.
It exits 0 when there is none, 1 otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			built, problems := load(file, noTelemetry())
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: fine: %d upstreams, %d policies\n", file, len(built.upstreams), len(built.policies.Policies()))
			return err
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "pullgate.yaml", "the configuration `FILE`")
}

// report prints problems, a line each, and is the error that ends the program.
func report(w io.Writer, problems []policy.Problem) error {
	for _, p := range problems {
		fmt.Fprintln(w, p.String())
	}
	return &exitError{exitDenied, errors.New("the configuration was refused; nothing was started")}
}
