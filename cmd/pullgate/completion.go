package main

import "github.com/spf13/cobra"

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
