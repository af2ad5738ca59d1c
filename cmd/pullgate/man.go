package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/pullgate/pullgate/cmd/pullgate/version"
)

func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a folder",
		Long: `man writes a manual page for this program and one for each of its commands into
DIR, which it makes if it is not there. Packages have them already.

  pullgate man ~/.local/share/man/man1 && man pullgate-serve`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}

			root := cmd.Root()
			root.DisableAutoGenTag = true
			forManual(root)
			if err := doc.GenManTree(root, manualHeader(), args[0]); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			return nil
		},
	}
}

// manualHeader dates the pages by the commit, so that two builds of one commit
// write the same; without one, SOURCE_DATE_EPOCH or the day dates them.
func manualHeader() *doc.GenManHeader {
	h := &doc.GenManHeader{
		Title:   "PULLGATE",
		Section: "1",
		Source:  "pullgate " + version.String(),
		Manual:  "pullgate",
	}
	if of, err := time.Parse(time.RFC3339, version.Read().Time); err == nil {
		h.Date = &of
	}
	return h
}

// forManual keeps the tables in the commands' texts as they are: what is indented
// here is a code block only with four blanks.
func forManual(cmd *cobra.Command) {
	var b strings.Builder
	before := false
	for line := range strings.SplitSeq(cmd.Long, "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != before {
			b.WriteByte('\n')
		}
		if before = indented; indented {
			line = "    " + line
		}
		b.WriteString(line + "\n")
	}
	cmd.Long = b.String()

	for _, sub := range cmd.Commands() {
		forManual(sub)
	}
}
