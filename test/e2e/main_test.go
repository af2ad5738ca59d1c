// Package e2e runs the built pullgate before real registries, signs with real
// cosign and pulls with real clients. It needs what .ci/install brings; a tool
// that is missing skips its tests, or fails them under PULLGATE_E2E=1.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var built struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a left-over folder is no test result
	}
	os.Exit(code)
}

// binary is the pullgate under test, built when the first test wants it.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "pullgate-e2e-"); built.err != nil {
			return
		}
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil { // others run it too
			return
		}
		build := exec.Command("go", "build", "-o", built.dir, "github.com/pullgate/pullgate/cmd/pullgate")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build pullgate: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "pullgate")
}

// need skips the test without the tools, or fails it where CI must have them.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, "it needs "+tool+"; .ci/install says how to get it")
		}
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "it needs root")
	}
}

func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("PULLGATE_E2E") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// closed keeps tools that would ask the internet on this machine.
func closed() []string {
	return []string{"HTTPS_PROXY=http://127.0.0.1:9", "NO_PROXY=127.0.0.1,localhost"}
}

// run executes a tool to its end and returns everything it printed.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	return runEnv(t, "", name, args...)
}

// runEnv is run with a password for private keys.
func runEnv(t *testing.T, password, name string, args ...string) (string, error) {
	t.Helper()
	return runWith(t, append(closed(), "COSIGN_PASSWORD="+password), name, args...)
}

// runWith is run with env besides this process's environment.
func runWith(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// exitCode is what a command ended with.
func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return 0
}

func mustRun(t *testing.T, name string, args ...string) string {
	t.Helper()
	return mustRunEnv(t, "", name, args...)
}

func mustRunEnv(t *testing.T, password, name string, args ...string) string {
	t.Helper()
	out, err := runEnv(t, password, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
