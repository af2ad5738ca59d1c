package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/config"
	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/imagename"
)

// A person waits for a completion, so that only the newest of the record is read.
const (
	completeWithin  = 300 * time.Millisecond
	completeRecords = 5000
	completeNames   = 200
)

// completeFirst completes the first argument from a list of names, and the others
// as files.
func completeFirst(names []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return names, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// completeFlag completes the values of a flag that cmd has.
func completeFlag(cmd *cobra.Command, flag string, values ...string) {
	// The only error is that there is no such flag, or that it is completed twice.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeImages completes names of images: those that the gate has decided about
// lately, and the hosts of its upstreams. It asks no registry and no gate: it reads
// the configuration that --config names, and the record beside the state.
func completeImages(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	file := usualConfig
	if f := cmd.Flags().Lookup("config"); f != nil && f.Value.String() != "" {
		file = f.Value.String()
	}
	c, problems := config.Read(file, os.Environ())
	if c == nil || len(problems) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), completeWithin)
	defer cancel()
	names := recordedImages(ctx, c, begun)
	if len(names) > 0 {
		return names, cobra.ShellCompDirectiveNoFileComp
	}

	for _, u := range c.Upstreams {
		if strings.HasPrefix(u.Host, begun) {
			names = append(names, u.Host+"/")
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// recordedImages returns the names that begin so among the newest decisions.
func recordedImages(ctx context.Context, c *config.Config, begun string) []string {
	var names []string
	read := 0
	for r, err := range decisions.ReadAll(ctx, decisions.Files(c.DecisionsFile(), c.Decisions.Keep)) {
		if read++; read > completeRecords || len(names) == completeNames || ctx.Err() != nil {
			break
		}
		if err != nil || r.Kind != decisions.KindManifest || strings.Contains(r.Reference, ":") {
			continue // a digest is nothing to type
		}

		name := r.Image + ":" + r.Reference
		if !strings.HasPrefix(name, begun) || slices.Contains(names, name) {
			continue
		}
		// Clients write these names: only what is an image's may reach the shell.
		if _, err := imagename.Parse(name); err == nil {
			names = append(names, name)
		}
	}
	return names
}
