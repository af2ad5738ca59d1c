package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	maxOutput  = 2000 // bytes that are kept of what a runtime prints
	removeTime = 20 * time.Second
	waitDelay  = 5 * time.Second // for a command to end once it was told to
)

// attempt is one try to pull an image.
type attempt struct {
	succeeded bool
	unusable  string // why the runtime could not be tried at all
	command   string
	output    string
}

// try pulls an image and removes it again.
func (d *Doctor) try(ctx context.Context, r Runtime, image string) attempt {
	path, err := exec.LookPath(r.command)
	if err != nil {
		return attempt{unusable: r.command + " is not on this node's PATH: run doctor where " + r.name +
			" is, or do not name it"}
	}
	scratch, err := os.MkdirTemp("", "pullgate-doctor-")
	if err != nil {
		return attempt{unusable: fmt.Sprintf("make a folder for it: %v", err)}
	}
	defer os.RemoveAll(scratch)
	if err := os.WriteFile(filepath.Join(scratch, "Dockerfile"), []byte("FROM "+image+"\n"), 0o600); err != nil {
		return attempt{unusable: fmt.Sprintf("write a Dockerfile for it: %v", err)}
	}

	args := r.pull(d, image, scratch)
	a := attempt{command: r.command + " " + strings.Join(args, " ")}
	r.forget(ctx, path, image) // left over from an earlier, loose pull, it would answer for the registry

	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = waitDelay
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()

	a.output = out.String()[max(0, out.Len()-maxOutput):]
	if err != nil {
		a.unusable = unusable(ctx, err, a.output)
		return a
	}
	a.succeeded = true
	r.forget(context.WithoutCancel(ctx), path, image) // the canary is to stay nowhere
	return a
}

// unusable tells a runtime that cannot be used at all from a pull that failed, for
// which it returns nothing.
func unusable(ctx context.Context, err error, output string) string {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "the pull did not end in time (--timeout)"
	case !errors.As(err, &exit):
		return err.Error()
	case strings.Contains(output, "/v2/"):
		return "" // it has asked a registry
	}

	for _, known := range []struct{ sign, says string }{
		// The first, because others stand beside it.
		{"permission denied", "there is no right to use it: run doctor as root, or as who may pull"},
		{"Cannot connect to the", "its daemon does not run"},
		{"cannot access socket", "its daemon does not run, or there is no right to its socket"},
		{"connection error: desc", "its daemon does not run"},
		{"no such file or directory:", "it is not set up"},
		{"rootless", "it is not set up for this user"},
	} {
		if strings.Contains(output, known.sign) {
			return known.says
		}
	}
	return ""
}

// forget removes an image, if it is there.
func (r Runtime) forget(ctx context.Context, path, image string) {
	if r.remove == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	_ = exec.CommandContext(ctx, path, r.remove(image)...).Run() // mostly there is nothing to remove
}
