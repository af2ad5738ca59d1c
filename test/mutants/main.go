//go:build unix

// Command mutants takes security conditions out of the code, one at a time, and
// runs the tests that must notice. It fails where they do not.
//
//	go run ./test/mutants [-check] [-only REGEXP] [-changed BASE] [-random N] [-jobs N]
//
// The table is mutants.txt, beside this file. The working tree is not changed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// table is where the mutants are, in the module.
const table = "test/mutants/mutants.txt"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// start finds the module that it is run in.
func start(ctx context.Context, args []string, out io.Writer) error {
	file, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	return run(ctx, filepath.Dir(strings.TrimSpace(string(file))), args, out)
}

// choice is which mutants are run. The zero value chooses all.
type choice struct {
	only    *regexp.Regexp // of the condition or the file, or nil
	changed string         // a git revision, or ""
	random  int            // how many beside those
}

func run(ctx context.Context, root string, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(out)
	onlyCheck := flags.Bool("check", false, "only check that each old text is found exactly once in its file")
	only := flags.String("only", "", "only mutants whose condition or file matches this `regexp`")
	changed := flags.String("changed", "", "only mutants of files that differ from this git `revision`")
	random := flags.Int("random", 0, "`number` of mutants to choose at random, beside those of -changed")
	keep := flags.Bool("record", false, "write into the table which test killed each mutant, to be run first next time")
	jobs := flags.Int("jobs", 1, "`number` of mutants to run at once")
	timeout := flags.Duration("timeout", 10*time.Minute, "`duration` after which a package's tests count as failed")
	if err := flags.Parse(args); err != nil {
		return err
	}

	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(table)))
	if err != nil {
		return err
	}
	list, err := parse(table, string(text))
	if err != nil {
		return err
	}
	if err := check(table, root, list); err != nil {
		return err
	}
	if *onlyCheck {
		fmt.Fprintf(out, "%d mutants fit\n", len(list))
		return nil
	}

	pattern, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	list, err = choice{only: pattern, changed: *changed, random: *random}.of(ctx, root, list)
	if err != nil {
		return err
	}

	scratch, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	r := &runner{root: root, scratch: scratch, timeout: *timeout}
	if err := r.unmutated(ctx, list); err != nil {
		return err
	}
	killers, err := r.all(ctx, list, max(1, *jobs), out)
	if *keep {
		text = []byte(record(string(text), killers))
		err = errors.Join(err, os.WriteFile(filepath.Join(root, filepath.FromSlash(table)), text, 0o644))
	}
	return err
}

// of chooses from list, in its order.
func (c choice) of(ctx context.Context, root string, list []mutant) ([]mutant, error) {
	list = slices.DeleteFunc(list, func(m mutant) bool {
		return !c.only.MatchString(m.condition) && !c.only.MatchString(m.file)
	})
	if c.changed == "" && c.random == 0 {
		return list, nil
	}

	chosen := make(map[string]bool)
	if c.changed != "" {
		git := exec.CommandContext(ctx, "git", "diff", "--name-only", "--relative", "-z", c.changed, "--")
		git.Dir = root
		out, err := git.Output()
		if err != nil {
			return nil, fmt.Errorf("what differs from %s: %w: %s", c.changed, err, stderrOf(err))
		}
		files := strings.Split(string(out), "\x00")
		for _, m := range list {
			chosen[m.condition] = slices.Contains(files, m.file)
		}
	}

	left := c.random
	for _, i := range rand.Perm(len(list)) {
		if m := list[i]; left > 0 && !chosen[m.condition] && m.equivalent == "" {
			chosen[m.condition] = true
			left--
		}
	}
	return slices.DeleteFunc(list, func(m mutant) bool { return !chosen[m.condition] }), nil
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}

// unmutated checks that the tests of list pass as the code is: what fails
// without a mutant says nothing about one.
func (r *runner) unmutated(ctx context.Context, list []mutant) error {
	var packages []string
	for _, m := range list {
		packages = append(packages, m.packages...)
	}
	slices.Sort(packages)
	for _, p := range slices.Compact(packages) {
		if res := r.test(ctx, "", killer{pkg: p}); res.outcome != survived {
			return fmt.Errorf("a test fails without any mutant: %s", res.reason())
		}
	}
	return nil
}

// all runs list, so many at once, and reports each when it has ended. It
// returns the tests that killed, by the mutants' conditions.
func (r *runner) all(ctx context.Context, list []mutant, jobs int, out io.Writer) (map[string]killer, error) {
	var mu sync.Mutex
	counts := make(map[string]int)
	killers := make(map[string]killer)
	var problems []error

	next := make(chan mutant)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for m := range next {
				res := r.mutate(ctx, m)

				mu.Lock()
				word, text, err := verdict(m, res)
				counts[word]++
				killers[m.condition] = res.killer
				fmt.Fprintf(out, "%-10s %5.1fs  %s: %s\n%s", word, res.took.Seconds(), m.file, m.condition, text)
				if err != nil {
					problems = append(problems, fmt.Errorf("%s:%d: %q %w", table, m.line, m.condition, err))
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range list {
		if ctx.Err() != nil {
			break
		}
		next <- m
	}
	close(next)
	workers.Wait()

	fmt.Fprintf(out, "%d mutants: %d killed, %d equivalent, %d survived, %d do not build, %d unknown\n",
		len(list), counts["killed"], counts["equivalent"], counts["SURVIVED"], counts["NOT BUILT"], counts["UNKNOWN"])
	return killers, errors.Join(append(problems, ctx.Err())...)
}

// verdict is the word for a mutant's result, what else there is to say about it
// (lines, or nothing), and what is wrong with it.
func verdict(m mutant, res result) (word, text string, err error) {
	switch res.outcome {
	case killed:
		text = indented("by "+res.by) + "\n"
		if m.equivalent != "" {
			return "killed", text, errors.New("is marked equivalent, but a test fails on it: remove the mark")
		}
		return "killed", text, nil
	case survived:
		if m.equivalent != "" {
			return "equivalent", indented(m.equivalent) + "\n", nil
		}
		return "SURVIVED", "", errors.New("survived: no test notices")
	case notBuilt:
		return "NOT BUILT", indented(res.by) + "\n", errors.New("does not build")
	}
	return "UNKNOWN", "", fmt.Errorf("could not be run: %s", res.reason())
}
