package credentials

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	dockerhelpers "github.com/docker/docker-credential-helpers/credentials"
)

const (
	// helperPrefix begins the name of every credential helper's program.
	helperPrefix = "docker-credential-"

	// tokenUser is the user name with which a helper says that its secret is an
	// identity token.
	tokenUser = "<token>"

	// helperTimeout bounds one run of a helper, also the one at load time.
	helperTimeout = 10 * time.Second

	// helperGrace is how long the output of a helper that has ended, or has been
	// stopped, is still waited for: a process that it started may hold it open.
	helperGrace = time.Second

	// helperLife is how long a helper's answer is believed: its protocol has no
	// expiry. helperPause is how soon a helper is run again after it failed, or
	// after its answer was refused.
	helperLife  = time.Minute
	helperPause = 2 * time.Second

	maxAnswers = 16 // that are remembered
)

// question is what a helper was asked, and by which state of the file.
type question struct {
	changed        time.Time // the file
	helper, server string
}

// helpers runs credential helpers, and remembers what they answered.
type helpers struct {
	mu      sync.Mutex
	answers map[question]*answer
	running map[question]*run
}

type answer struct {
	found Credentials
	err   error
	at    time.Time
	until time.Time
}

// run is a helper's process, for all who wait for it. It is stopped when the last
// of them has left.
type run struct {
	done    chan struct{}
	stop    context.CancelCauseFunc
	waiting int
	found   Credentials
	err     error
}

// refused ends the life of every answer that is not as new as a run would be.
func (h *helpers) refused() {
	h.mu.Lock()
	defer h.mu.Unlock()

	for _, a := range h.answers {
		if soonest := a.at.Add(helperPause); soonest.Before(a.until) {
			a.until = soonest
		}
	}
}

// ask returns what a helper answers, or has answered a short while ago.
func (d *DockerConfig) ask(ctx context.Context, helper, server string) (Credentials, error) {
	info, err := os.Stat(d.file)
	if err != nil {
		return Credentials{}, fmt.Errorf("read Docker config: %w", err)
	}
	q := question{changed: info.ModTime(), helper: helper, server: server}

	h := &d.helpers
	h.mu.Lock()
	if a := h.answers[q]; a != nil && time.Now().Before(a.until) {
		h.mu.Unlock()
		return a.found, a.err
	}
	r := h.running[q]
	if r == nil {
		r = d.start(ctx, q)
	}
	r.waiting++
	h.mu.Unlock()

	select {
	case <-r.done:
		return r.found, r.err
	case <-ctx.Done():
		h.leave(q, r, context.Cause(ctx))
		return Credentials{}, d.stopped(server, context.Cause(ctx))
	}
}

// start runs a helper. The caller holds the lock.
func (d *DockerConfig) start(ctx context.Context, q question) *run {
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), helperTimeout)
	ctx, stop := context.WithCancelCause(ctx)
	r := &run{done: make(chan struct{}), stop: stop}

	h := &d.helpers
	if h.running == nil {
		h.running = map[question]*run{}
	}
	h.running[q] = r

	go func() {
		defer end()
		defer stop(nil)

		r.found, r.err = d.run(ctx, q.helper, q.server)
		h.end(q, r)
	}()
	return r
}

// end notes what a run has come to.
func (h *helpers) end(q question, r *run) {
	h.mu.Lock()
	defer h.mu.Unlock()

	now := time.Now()
	until := now.Add(helperLife)
	if r.err != nil {
		until = now.Add(helperPause)
	}
	if h.running[q] == r {
		delete(h.running, q)
		if h.answers == nil || len(h.answers) >= maxAnswers {
			h.answers = map[question]*answer{}
		}
		h.answers[q] = &answer{found: r.found, err: r.err, at: now, until: until}
	}
	close(r.done)
}

// leave is called by one who waits no longer. A run that nobody waits for is
// stopped, and one who comes later begins another.
func (h *helpers) leave(q question, r *run, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if r.waiting--; r.waiting > 0 {
		return
	}
	r.stop(why)
	if h.running[q] == r {
		delete(h.running, q)
	}
}

// run runs a credential helper to its end, or to that of ctx. The output of a
// helper that fails may hold secrets, so that no error quotes it, and what it
// writes to stderr goes nowhere.
func (d *DockerConfig) run(ctx context.Context, helper, server string) (Credentials, error) {
	start := func(args ...string) client.Program {
		cmd := exec.CommandContext(ctx, helperPrefix+helper, args...)
		cmd.WaitDelay = helperGrace
		ownGroup(cmd)

		return program{cmd}
	}

	found, err := client.Get(start, server)
	switch {
	case err == nil && found.Username == tokenUser:
		return Credentials{IdentityToken: found.Secret}, nil
	case err == nil:
		return Credentials{Username: found.Username, Password: found.Secret}, nil
	case dockerhelpers.IsErrCredentialsNotFound(err):
		return Credentials{}, nil
	case ctx.Err() != nil:
		return Credentials{}, d.stopped(server, context.Cause(ctx))
	}

	return Credentials{}, fmt.Errorf("docker config %s: its credential helper failed for %s", d.file, server)
}

func (d *DockerConfig) stopped(server string, why error) error {
	return fmt.Errorf(
		"docker config %s: its credential helper was stopped before it answered for %s: %w",
		d.file, server, why,
	)
}

// program is a helper's process as Docker's client of helpers wants it.
type program struct{ cmd *exec.Cmd }

func (p program) Output() ([]byte, error) { return p.cmd.Output() }

func (p program) Input(in io.Reader) { p.cmd.Stdin = in }
