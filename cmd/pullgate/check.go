package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
)

func checkCommand() *cobra.Command {
	var file string
	var strict bool
	cmd := &cobra.Command{
		Use:   "check --config FILE [--strict]",
		Short: "Say everything that is wrong with a configuration",
		Long: `check loads the configuration, its policies and its keys as serve would, asks no
registry, and prints every problem at once with its file and line.
With --strict it also names what is allowed but weak: exemptions for everything
or without an end, modes that refuse nothing, patterns over hosts, short keys,
plain http.
It exits 0 when there is nothing to say, 1 otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, problems := load(file, telemetry.None())
			if len(problems) > 0 {
				return report(cmd.ErrOrStderr(), problems)
			}
			if strict {
				if weak := l.lint(); len(weak) > 0 {
					show.Problems(cmd.ErrOrStderr(), weak)
					return exit.With(exit.Denied, errors.New("the configuration is valid, but weak; see above"))
				}
			}
			_, err := fmt.Fprintf(
				cmd.OutOrStdout(),
				"%s: fine: %s, %s\n",
				file,
				show.Counted(len(l.upstreams), "upstream"),
				show.Counted(len(l.policies.Policies()), "policy"),
			)
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&strict, "strict", false, "also name what is allowed but weak")
	return cmd
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "pullgate.yaml", "the configuration `FILE`")
}

// report prints problems, a line each, and is the error that ends the program.
func report(w io.Writer, problems []policy.Problem) error {
	show.Problems(w, problems)
	return exit.With(exit.Denied, errors.New("the configuration was refused; nothing was started"))
}
