package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/cmd/pullgate/server"
	"github.com/pullgate/pullgate/cmd/pullgate/show"
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// replayAtOnce bounds the images that are judged at the same time.
const replayAtOnce = 8

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

Images are judged by digest with the very code that serve runs, so their
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
				files = decisionFiles(l.Config.DecisionsFile(), l.Config.Decisions.Keep)
			} else if err := allThere(files); err != nil {
				return err
			}
			history, err := readHistory(cmd.Context(), files)
			if err != nil {
				return err
			}
			if len(history.images) == 0 {
				return history.nothing(files[0])
			}
			if err := history.judge(cmd.Context(), l, show.Progress(cmd.ErrOrStderr(), "images judged")); err != nil {
				return err
			}
			return history.compare().print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "pullgate.yaml", "the new configuration `FILE`")
	cmd.Flags().StringArrayVar(&files, "decisions", nil, "a `FILE` of decisions; may be given several times")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	return cmd
}

// allThere says which file that somebody named is missing.
func allThere(files []string) error {
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return fmt.Errorf("read decisions: %w", err)
		}
	}
	return nil
}

// judge asks a gate of its own, made from l, about every image once.
func (h *history) judge(ctx context.Context, l *server.Loaded, progress func(done, of int)) (err error) {
	dir, err := os.MkdirTemp("", "pullgate-replay-")
	if err != nil {
		return fmt.Errorf("make a folder for the state: %w", err)
	}
	defer os.RemoveAll(dir)
	unmetered := l.WithClientMisses(math.MaxInt32) // a budget for clients: this is none
	gate, err := server.NewStandaloneGate(ctx, unmetered, filepath.Join(dir, "state"), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, gate.Close()) }()
	var finished atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(replayAtOnce)
	for _, image := range h.images {
		group.Go(func() error {
			image.now, image.err = h.judgeOne(ctx, gate.Gate, image)
			progress(int(finished.Add(1)), len(h.images))
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("judge recorded images: %w", err)
	}
	return nil
}

// judgeOne asks as a runtime would: for the index first, whose admission lets
// its parts in.
func (h *history) judgeOne(ctx context.Context, gate *verify.Gate, image *pulledImage) (verify.Verdict, error) {
	var untold error
	for _, parent := range h.above(image) {
		if _, _, err := gate.Manifest(ctx, image.image.At(parent), policy.Client{}); err != nil {
			untold = fmt.Errorf("ask for %s, which it is a part of: %w", parent, err)
		}
	}
	_, v, err := gate.Manifest(ctx, image.image, policy.Client{})
	if err == nil && !v.Admitted() && untold != nil { // the parent might have let it in
		return verify.Verdict{}, untold
	}
	return v, err
}
