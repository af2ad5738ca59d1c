package credentials

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"

	"github.com/pullgate/pullgate/policy"
)

// dockerHub are the names under which programs store Docker Hub's entry, the one
// of `docker login` first; the others are those of Podman, Skopeo, Helm and ORAS.
var dockerHub = []string{"https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"}

// DockerConfig is a Docker config.json, or an auth.json of Podman, with its
// credential helpers. The file is read at every Get, so that rotation needs no
// reload; what a helper answered is believed for a minute.
type DockerConfig struct {
	file     string
	registry Registry
	names    []string // the registry's in the file; the first one is what a store is asked for
	helpers  helpers

	configured atomic.Bool // the last Get found an entry, or could not tell
}

// NewDockerConfig checks that the file can be read and that the registry's
// helper, if it has one, answers.
func NewDockerConfig(file string, registry Registry) (*DockerConfig, error) {
	d := &DockerConfig{file: file, registry: registry, names: dockerNames(registry)}
	if _, err := d.Get(context.Background(), policy.Repository{}); err != nil {
		return nil, err
	}

	return d, nil
}

// dockerNames are the names of a registry in a Docker config. Docker Hub's entry
// is for Docker Hub itself: a mirror that serves docker.io is another party.
func dockerNames(r Registry) []string {
	switch {
	case r.Host == "docker.io" && r.Address == "registry-1.docker.io",
		r.Address == "docker.io",
		r.Address == "index.docker.io":
		return dockerHub
	}

	return []string{r.Address}
}

// Get returns what the file, or the helper that it names, holds for a repository
// of the registry now.
func (d *DockerConfig) Get(ctx context.Context, repository policy.Repository) (Credentials, error) {
	found, configured, err := d.read(ctx, repository)
	if ctx.Err() == nil { // a caller that left says nothing about the file
		d.configured.Store(err != nil || configured)
	}

	return found, err
}

// Configured reports whether the last Get found an entry for the registry. A
// Get that could not tell counts as one that did.
func (d *DockerConfig) Configured() bool { return d.configured.Load() }

// Refused has the helper asked again, however short the time since.
func (d *DockerConfig) Refused() { d.helpers.refused() }

// read is Get; configured says that there is an entry for the registry, also
// when it is for other repositories.
func (d *DockerConfig) read(
	ctx context.Context,
	repository policy.Repository,
) (found Credentials, configured bool, err error) {
	text, err := os.ReadFile(d.file)
	if err != nil {
		return Credentials{}, false, fmt.Errorf("read Docker config: %w", err)
	}

	parsed, err := config.LoadFromReader(bytes.NewReader(text))
	if err != nil { // not wrapped: the parser's errors may quote a password
		return Credentials{}, false, fmt.Errorf("docker config %s is not valid", d.file)
	}

	// DOCKER_AUTH_CONFIG comes before the file and its helpers. Docker's own code
	// reads it, and would otherwise run a helper without a context.
	of := dockerFile{entries: parsed.AuthConfigs, helpers: parsed.CredentialHelpers, store: parsed.CredentialsStore}
	parsed.AuthConfigs, parsed.CredentialHelpers, parsed.CredentialsStore = nil, nil, ""
	if entry, ok, err := d.environment(parsed); ok || err != nil {
		return entry, true, err
	}

	if helper, server := of.helper(d.names); helper != "" {
		found, err = d.ask(ctx, helper, server)
		return found, !found.Empty(), err
	}

	entry, configured := d.entry(of.entries, repository)
	return credentialsOf(entry), configured, nil
}

// environment is the entry of DOCKER_AUTH_CONFIG, if there is one.
func (d *DockerConfig) environment(empty *configfile.ConfigFile) (found Credentials, ok bool, err error) {
	if os.Getenv(configfile.DockerEnvConfigKey) == "" {
		return Credentials{}, false, nil
	}

	for _, name := range d.names {
		entry, err := empty.GetAuthConfig(name)
		if err != nil {
			return Credentials{}, false, fmt.Errorf("docker config %s cannot be searched for %s", d.file, name)
		}
		if entry.ServerAddress != "" {
			return credentialsOf(entry), true, nil
		}
	}

	return Credentials{}, false, nil
}

func credentialsOf(entry types.AuthConfig) Credentials {
	return Credentials{
		Username:      entry.Username,
		Password:      entry.Password,
		IdentityToken: entry.IdentityToken,
	}
}

// dockerFile is what a Docker config says.
type dockerFile struct {
	entries map[string]types.AuthConfig
	helpers map[string]string // server → helper
	store   string            // the helper of all other servers
}

// helper is the credential helper of the registry with these names, and the name
// that it knows the registry by.
func (f dockerFile) helper(names []string) (helper, server string) {
	for _, name := range names {
		if helper := f.helpers[name]; helper != "" {
			return helper, name
		}
	}

	return f.store, names[0]
}

// entry is the one for a repository: of several for its registry the one whose
// path leads furthest towards it, as Podman and Skopeo choose.
func (d *DockerConfig) entry(
	entries map[string]types.AuthConfig,
	repository policy.Repository,
) (found types.AuthConfig, configured bool) {
	path := strings.Trim(d.registry.Path+"/"+repository.Path, "/")
	best := -1
	for _, key := range d.sorted(entries) {
		of := namespace(key)
		configured = true
		if len(of) > best && (of == "" || path == of || strings.HasPrefix(path, of+"/")) {
			best, found = len(of), entries[key]
		}
	}

	return found, configured
}

// sorted are the keys of the registry's entries: by its names, then by the
// alphabet, so that of two that say the same the same one counts at every reading.
func (d *DockerConfig) sorted(entries map[string]types.AuthConfig) []string {
	var own []string
	for key := range entries {
		if d.rank(key) >= 0 {
			own = append(own, key)
		}
	}
	slices.SortFunc(own, func(a, b string) int {
		if by := d.rank(a) - d.rank(b); by != 0 {
			return by
		}
		return strings.Compare(a, b)
	})

	return own
}

// rank is the position of the registry's name that a key begins with, those that
// are spelled exactly so first; -1 when the key is another registry's.
func (d *DockerConfig) rank(key string) int {
	if i := slices.Index(d.names, key); i >= 0 {
		return i
	}

	host := d.withPort(hostOf(key))
	for i, name := range d.names {
		if d.withPort(hostOf(name)) == host {
			return len(d.names) + i
		}
	}
	return -1
}

// withPort writes the port of a host out, where it is known.
func (d *DockerConfig) withPort(host string) string {
	host = strings.ToLower(host)
	if _, port := policy.SplitPort(host); port == "" && d.registry.ImpliedPort != "" {
		return host + ":" + d.registry.ImpliedPort
	}

	return host
}

// hostOf is the host of a key, which may be a URL.
func hostOf(key string) string {
	host, _, _ := strings.Cut(withoutScheme(key), "/")
	return host
}

// namespace is the path of a key below its host, without slashes at its ends;
// the API's version in older keys is none.
func namespace(key string) string {
	_, path, _ := strings.Cut(withoutScheme(key), "/")
	switch path = strings.Trim(path, "/"); path {
	case "v1", "v2":
		return ""
	}

	return path
}

func withoutScheme(key string) string {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		return rest
	}

	return key
}
