package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// slowToEnd names the variable that makes this test's process the one that is
// interrupted.
const slowToEnd = "TEST_SLOW_TO_END"

// TestSecondInterrupt: the first ends a command in good order, the second at once.
func TestSecondInterrupt(t *testing.T) {
	if os.Getenv(slowToEnd) != "" {
		ctx, stop := untilInterrupted(t.Context())
		defer stop()
		fmt.Println("begun")
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond) // for what follows the end of ctx
		fmt.Println("ending")
		time.Sleep(time.Minute)
		return
	}

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecondInterrupt$")
	child.Env = append(os.Environ(), slowToEnd+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"begun", "ending"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("it says %q, want %q", lines.Text(), want)
		}
		if want == "ending" { // a supervisor's second one changes nothing
			signalTo(t, child, syscall.SIGTERM)
			time.Sleep(50 * time.Millisecond)
		}
		signalTo(t, child, syscall.SIGINT)
	}

	err = child.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		t.Fatalf("it ended with %v", err)
	}
	status, ok := ended.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, want the interrupt", err)
	}
}

func signalTo(t *testing.T, child *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := child.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
