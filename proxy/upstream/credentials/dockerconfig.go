package credentials

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/docker-credential-helpers/client"
	helpers "github.com/docker/docker-credential-helpers/credentials"

	"github.com/pullgate/pullgate/policy"
)

const (
	// dockerHub is the name under which `docker login` stores Docker Hub's entry.
	dockerHub = "https://index.docker.io/v1/"

	// helperPrefix begins the name of every credential helper's program.
	helperPrefix = "docker-credential-"

	// tokenUser is the user name with which a helper says that its secret is an
	// identity token.
	tokenUser = "<token>"

	// helperGrace is how long the output of a helper that has ended, or has been
	// stopped, is still waited for: a process that it started may hold it open.
	helperGrace = time.Second
)

// DockerConfig is a Docker config.json with its credential helpers. The file is
// read, and the helper run, at every Get, so that rotation needs no reload.
type DockerConfig struct {
	file   string
	server string // the registry's name in the file

	configured atomic.Bool // the last Get found an entry, or could not tell
}

// NewDockerConfig checks that the file can be read and that the registry's
// helper, if it has one, answers.
func NewDockerConfig(file string, registry Registry) (*DockerConfig, error) {
	d := &DockerConfig{file: file, server: dockerServer(registry)}
	if _, err := d.Get(context.Background(), policy.Repository{}); err != nil {
		return nil, err
	}

	return d, nil
}

// dockerServer is the name of a registry in a Docker config. Docker Hub's entry
// is for Docker Hub itself: a mirror that serves docker.io is another party.
func dockerServer(r Registry) string {
	switch {
	case r.Host == "docker.io" && r.Address == "registry-1.docker.io",
		r.Address == "docker.io",
		r.Address == "index.docker.io":
		return dockerHub
	}

	return r.Address
}

// Get returns what the file, or the helper that it names, holds for the
// registry now.
func (d *DockerConfig) Get(ctx context.Context, _ policy.Repository) (Credentials, error) {
	found, err := d.read(ctx)
	if ctx.Err() == nil { // a caller that left says nothing about the file
		d.configured.Store(err != nil || !found.Empty())
	}

	return found, err
}

// Configured reports whether the last Get found an entry for the registry. A
// Get that could not tell counts as one that did.
func (d *DockerConfig) Configured() bool { return d.configured.Load() }

func (d *DockerConfig) read(ctx context.Context) (Credentials, error) {
	text, err := os.ReadFile(d.file)
	if err != nil {
		return Credentials{}, fmt.Errorf("read Docker config: %w", err)
	}

	parsed, err := config.LoadFromReader(bytes.NewReader(text))
	if err != nil { // not wrapped: the parser's errors may quote a password
		return Credentials{}, fmt.Errorf("docker config %s is not valid", d.file)
	}

	helper := takeHelper(parsed, d.server)
	entry, err := parsed.GetAuthConfig(d.server)
	if err != nil {
		return Credentials{}, fmt.Errorf("docker config %s cannot be searched for %s", d.file, d.server)
	}

	if helper != "" && entry.ServerAddress == "" { // no entry comes before the helper
		return d.ask(ctx, helper)
	}

	return Credentials{
		Username:      entry.Username,
		Password:      entry.Password,
		IdentityToken: entry.IdentityToken,
	}, nil
}

// takeHelper returns the name of the server's credential helper, if it has one,
// and leaves in c what comes before the helper: the entries of
// DOCKER_AUTH_CONFIG, not those of the file. Docker's own code would run the
// helper without a context.
func takeHelper(c *configfile.ConfigFile, server string) string {
	helper, own := c.CredentialHelpers[server]
	if !own {
		helper = c.CredentialsStore
	}

	c.CredentialHelpers, c.CredentialsStore = nil, ""
	if helper != "" {
		c.AuthConfigs = nil
	}

	return helper
}

// ask runs a credential helper. The output of a helper that fails may hold
// secrets, so that no error quotes it.
func (d *DockerConfig) ask(ctx context.Context, helper string) (Credentials, error) {
	run := func(args ...string) client.Program {
		cmd := exec.CommandContext(ctx, helperPrefix+helper, args...)
		cmd.Stderr = os.Stderr
		cmd.WaitDelay = helperGrace

		return program{cmd}
	}

	found, err := client.Get(run, d.server)
	switch {
	case err == nil && found.Username == tokenUser:
		return Credentials{IdentityToken: found.Secret}, nil
	case err == nil:
		return Credentials{Username: found.Username, Password: found.Secret}, nil
	case helpers.IsErrCredentialsNotFound(err):
		return Credentials{}, nil
	case ctx.Err() != nil:
		return Credentials{}, fmt.Errorf(
			"docker config %s: its credential helper was stopped before it answered for %s: %w",
			d.file, d.server, context.Cause(ctx),
		)
	}

	return Credentials{}, fmt.Errorf("docker config %s: its credential helper failed for %s", d.file, d.server)
}

// program is a helper's process as Docker's client of helpers wants it.
type program struct{ cmd *exec.Cmd }

func (p program) Output() ([]byte, error) { return p.cmd.Output() }

func (p program) Input(in io.Reader) { p.cmd.Stdin = in }
