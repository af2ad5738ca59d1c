package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/decisions"
	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/cmd/pullgate/replay"
	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

func replayCommand() *cobra.Command {
	var file string
	var files []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "replay [--decisions FILE]… --config NEW",
		Short: "Find out what another configuration would change, from recorded decisions",
		Long: `replay judges every image in recorded decisions again, under another
configuration, and lists what would change: what was pulled and would be refused,
what was refused and would be admitted, what could not be told. It is the way from
mode: warn to enforce; docs/cookbook.md walks it.

Images are judged for the clients that have asked, where policies tell clients
apart, and by digest with the very code that serve runs, so their
signatures are looked for now, in the registries of the new configuration. A
platform's manifest is judged as a part of the index it was pulled by.

Without --decisions it reads the files that the configuration names, the older
ones included. It exits 0 when nothing that was pulled would be refused, 1 when
something would, 2 when that could not be told.`,
		Example: "  pullgate replay --config enforce.yaml\n" +
			"  pullgate replay --decisions node1.jsonl --decisions node2.jsonl --config enforce.yaml --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := load(cmd, file)
			if err != nil {
				return err
			}

			files = append(files, args...) // --decisions *.jsonl
			if len(files) == 0 {
				files = decisions.Files(l.Config.DecisionsFile(), l.Config.Decisions.Keep)
			} else if err := decisions.CheckFiles(files); err != nil {
				return err
			}

			history, err := replay.ReadHistory(cmd.Context(), files, apart(l.Policies))
			if err != nil {
				return err
			}
			if history.Images() == 0 {
				return history.Nothing(files[0])
			}
			progress := show.Progress(cmd.ErrOrStderr(), "images judged")
			if err := judgeAgain(cmd.Context(), l, history, progress); err != nil {
				return err
			}

			c := history.Compare()
			text := c.Text()
			if asJSON {
				text = c.JSON()
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
				return fmt.Errorf("print the comparison: %w", err)
			}
			return comparisonError(c)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "pullgate.yaml", "the new configuration `FILE`")
	cmd.Flags().StringArrayVar(&files, "decisions", nil, "a `FILE` of decisions; may be given several times")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	return cmd
}

// judgeAgain asks a gate of its own, made from l, about every image once.
func judgeAgain(
	ctx context.Context,
	l *server.Loaded,
	h *replay.History,
	progress func(done, of int),
) (err error) {
	dir, err := os.MkdirTemp("", "pullgate-replay-")
	if err != nil {
		return fmt.Errorf("make a folder for the state: %w", err)
	}
	defer os.RemoveAll(dir)

	unmetered := l.WithClientMisses(math.MaxInt32) // a budget for clients, and this is none
	gate, err := server.NewStandaloneGate(ctx, unmetered, filepath.Join(dir, "state"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gate.Close()) }()

	judge := func(ctx context.Context, image policy.Image, client policy.Client) (verify.Verdict, error) {
		_, v, err := gate.Manifest(ctx, image, client)
		return v, err
	}
	return h.Judge(ctx, judge, progress)
}

// apart returns what stands for each client: the first of those that the policies
// do not tell apart.
func apart(policies *policy.Set) func(policy.Client) policy.Client {
	first := map[string]policy.Client{}
	return func(c policy.Client) policy.Client {
		kind := policies.KindOf(c)
		if kind == "" { // no policy is for some clients
			return policy.Client{}
		}
		if _, known := first[kind]; !known {
			first[kind] = c
		}
		return first[kind]
	}
}

// comparisonError is how replay ends.
func comparisonError(c *replay.Comparison) error {
	switch {
	case len(c.Refused) > 0:
		return exit.With(exit.Denied, fmt.Errorf("%s that were pulled would be refused",
			show.Counted(len(c.Refused), "image")))
	case len(c.Undecided) > 0:
		return fmt.Errorf("about %d images it could not be told", len(c.Undecided))
	case c.Images == 0:
		return errors.New("no image was judged")
	}
	return nil
}
