package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/cmd/pullgate/telemetry"
	"github.com/pullgate/pullgate/policy"
)

// usualConfig is the configuration where none is named.
const usualConfig = "pullgate.yaml"

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", usualConfig, "the configuration `FILE`")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // it is there
}

// load loads a configuration for a command that measures nothing, and prints its
// problems.
func load(cmd *cobra.Command, file string) (*server.Loaded, error) {
	l, problems := server.Load(file, os.Environ(), telemetry.None())
	if len(problems) > 0 {
		return nil, refuse(cmd.ErrOrStderr(), problems)
	}
	return l, nil
}

// refuse prints the problems of a configuration, a line each, and returns the
// error that ends the program. Without a configuration nothing could be told.
func refuse(w io.Writer, problems []policy.Problem) error {
	show.Problems(w, problems)
	return errors.New("the configuration was refused; nothing was started")
}
