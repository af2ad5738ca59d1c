package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/lint"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
)

func checkCommand() *cobra.Command {
	var file string
	var strict bool
	cmd := &cobra.Command{
		Use:   "check --config FILE [--strict]",
		Short: "Say everything that is wrong with a configuration",
		Long: `check loads the configuration, its policies and its keys as serve would, asks no
registry, and prints every problem at once with its file and line. It warns of
what has no effect: no policies at all, and policies for registries that are not
among the upstreams; and of certificates that end within 30 days.
With --strict it also names what is allowed but weak: exemptions for everything
or without an end, modes that refuse nothing, patterns over hosts, short keys,
passwords that can be guessed fast, plain http.
It exits 0 when there is nothing to say, 1 when there is, 2 when there is no such
file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readable(file); err != nil {
				return fmt.Errorf("read the configuration: %w", err)
			}
			l, err := load(cmd, file)
			if err != nil {
				return exit.With(exit.Denied, err) // that is what was to be found out
			}

			ending := l.Ending(time.Now())
			weak := append(append(lint.Check(l.Config, l.Policies), l.Weak()...), ending...)
			if strict && len(weak) > 0 {
				show.Problems(cmd.ErrOrStderr(), weak)
				return exit.With(exit.Denied, errors.New("the configuration is valid, but weak; see above"))
			}
			for _, idle := range append(lint.Idle(l.Config, l.Policies), ending...) {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s (warning)\n", show.Printable(idle.String()))
			}

			upstreams := show.Counted(len(l.Config.Upstreams), "upstream")
			policies := show.Counted(len(l.Policies.Policies()), "policy")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: fine: %s, %s\n", file, upstreams, policies)
			return err
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&strict, "strict", false, "also name what is allowed but weak")
	return cmd
}

// readable returns an error for what is no file, or cannot be opened.
func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()

	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", file)
	}
	return err
}
