//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// outcome is what became of a mutant. The zero value says that nothing is known.
type outcome int

const (
	unknown outcome = iota
	killed          // a test failed
	survived
	notBuilt
)

// result is the outcome of one mutant.
type result struct {
	outcome outcome
	by      string // the package and the test that killed it, or the compiler's words
	killer  killer // the test that killed it, without its subtests
	took    time.Duration
	err     error // why the outcome is unknown
}

// reason is why the tests did not pass.
func (r result) reason() string {
	if r.err != nil {
		return r.err.Error()
	}
	return r.by
}

// runner runs the tests of the module below root. Its methods may be called
// concurrently.
type runner struct {
	root    string
	scratch string        // for mutated files
	timeout time.Duration // for the tests of one package; one that takes longer fails
}

// mutate runs the tests of m's packages, one after the other, with m in place of
// its file. The tree stays as it is: go reads the mutated file as an overlay,
// and builds only what depends on it.
func (r *runner) mutate(ctx context.Context, m mutant) result {
	began := time.Now()
	overlay, err := r.overlay(m)
	if err != nil {
		return result{err: err}
	}

	res := result{outcome: survived}
	if m.killer.test != "" {
		res = r.test(ctx, overlay, m.killer)
	}
	for _, p := range m.packages {
		if res.outcome != survived {
			break
		}
		res = r.test(ctx, overlay, killer{pkg: p})
	}
	res.took = time.Since(began)
	return res
}

// overlay writes the mutated file and the JSON that go's -overlay reads.
func (r *runner) overlay(m mutant) (string, error) {
	text, err := m.apply(r.root)
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(r.scratch, "")
	if err != nil {
		return "", err
	}

	mutated := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(mutated, text, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(r.root, filepath.FromSlash(m.file)): mutated},
	})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

// event is what `go test -json` prints, a line each.
type event struct {
	Action      string
	Test        string
	Output      string
	FailedBuild string
}

// ends reports whether e is the end of a test.
func ends(e event) bool { return e.Action == "pass" || e.Action == "fail" || e.Action == "skip" }

// test runs one test, or all tests of a package where none is named, with an
// overlay unless that is "".
func (r *runner) test(ctx context.Context, overlay string, which killer) result {
	// go ends tests that hang, by name. This deadline is for go itself.
	ctx, cancel := context.WithTimeout(ctx, 2*r.timeout+time.Minute)
	defer cancel()

	args := []string{"test", "-json", "-short", "-failfast", "-vet=off", "-timeout", r.timeout.String()}
	if which.test != "" {
		args = append(args, "-run", "^"+regexp.QuoteMeta(which.test)+"$")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, which.pkg)...)
	cmd.Dir = r.root
	cmd.Env = os.Environ()
	if overlay != "" { // by way of the environment, for what tests build themselves
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var errorText bytes.Buffer
	cmd.Stderr = &errorText

	out, err := cmd.Output()
	switch {
	case err == nil:
		return result{outcome: survived}
	case ctx.Err() != nil:
		return result{err: fmt.Errorf("%s: go test did not end: %w", which.pkg, ctx.Err())}
	}
	return failure(which.pkg, out, errorText.String())
}

// failure reads why the tests of a package failed.
func failure(pkg string, out []byte, errorText string) result {
	var compiler, test string
	var running []string // tests that have not ended
	failed, notCompiled := false, false
	lines := json.NewDecoder(bytes.NewReader(out))
	for {
		var e event
		if lines.Decode(&e) != nil { // the end, or something that is no event
			break
		}
		running = slices.DeleteFunc(running, func(name string) bool { return ends(e) && name == e.Test })
		switch {
		case e.Action == "build-output":
			compiler += e.Output
		case e.Action == "run":
			running = append(running, e.Test)
		case e.Action == "fail" && e.Test == "":
			failed, notCompiled = true, e.FailedBuild != ""
		case e.Action == "fail" && (test == "" || strings.HasPrefix(e.Test, test+"/")):
			test = e.Test // a subtest fails before the test it is part of
		}
	}

	switch {
	case notCompiled:
		return result{outcome: notBuilt, by: strings.TrimSpace(compiler)}
	case failed && test == "" && len(running) > 0: // a panic, or the timeout
		last := running[len(running)-1]
		return result{outcome: killed, by: pkg + " " + last + ", which did not end", killer: killer{pkg, whole(last)}}
	case failed && test == "":
		return result{outcome: killed, by: pkg + " as a whole"}
	case failed:
		return result{outcome: killed, by: pkg + " " + test, killer: killer{pkg, whole(test)}}
	}
	return result{err: errors.New(pkg + ": " + strings.TrimSpace(errorText+compiler))}
}

// whole is the test that a subtest is part of.
func whole(test string) string {
	name, _, _ := strings.Cut(test, "/")
	return name
}
