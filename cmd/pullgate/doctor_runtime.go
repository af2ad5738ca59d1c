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
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
)

// nodeRuntime is how one runtime is examined: with its own command, so that its
// own configuration decides.
type nodeRuntime struct {
	name    string
	command string
	// pull is the command's arguments. scratch is a folder of this attempt's own,
	// with a Dockerfile that says FROM image.
	pull   func(d *doctor, image, scratch string) []string
	remove func(image string) []string // nil where nothing stays that has a name
	lint   func(d *doctor) []string
	byName bool // not every version is held by a file: names that carry the gate's host are tried as well
}

const doctorNamespace = "pullgate-doctor"

var nodeRuntimes = []nodeRuntime{
	{
		name:    "crictl",
		command: "crictl", // the kubelet's way: containerd's CRI, or CRI-O
		pull:    func(_ *doctor, image, _ string) []string { return []string{"pull", image} },
		remove:  func(image string) []string { return []string{"rmi", image} },
	},
	{
		name:    "containerd",
		command: "ctr",
		pull: func(d *doctor, image, _ string) []string {
			return []string{
				"-n",
				doctorNamespace,
				"images",
				"pull",
				"--hosts-dir",
				d.file("/etc/containerd/certs.d"),
				image,
			}
		},
		remove: func(image string) []string { return []string{"-n", doctorNamespace, "images", "rm", "--sync", image} },
		lint:   lintContainerd,
	},
	{
		name:    "nerdctl",
		command: "nerdctl",
		pull:    func(_ *doctor, image, _ string) []string { return []string{"-n", doctorNamespace, "pull", image} },
		remove:  func(image string) []string { return []string{"-n", doctorNamespace, "rmi", "-f", image} },
		lint:    lintContainerd,
	},
	{
		name:    "docker",
		command: "docker",
		pull:    func(_ *doctor, image, _ string) []string { return []string{"pull", image} },
		remove:  func(image string) []string { return []string{"rmi", "-f", image} },
		lint:    lintDocker,
		byName:  true,
	},
	{
		name:    "podman",
		command: "podman",
		pull:    func(_ *doctor, image, _ string) []string { return []string{"pull", image} },
		remove:  func(image string) []string { return []string{"rmi", "-f", image} },
		lint:    lintContainersImage,
	},
	{
		name:    "buildah",
		command: "buildah",
		pull:    func(_ *doctor, image, _ string) []string { return []string{"pull", "--policy", "always", image} },
		remove:  func(image string) []string { return []string{"rmi", "-f", image} },
		lint:    lintContainersImage,
	},
	{
		name:    "skopeo",
		command: "skopeo",
		pull: func(_ *doctor, image, scratch string) []string {
			return []string{"copy", "docker://" + image, "dir:" + filepath.Join(scratch, "image")}
		},
		lint: lintContainersImage,
	},
	{
		name:    "buildkit",
		command: "buildctl",
		pull: func(_ *doctor, _, scratch string) []string {
			return []string{
				"build",
				"--no-cache",
				"--progress",
				"plain",
				"--frontend",
				"dockerfile.v0",
				"--local",
				"context=" + scratch,
				"--local",
				"dockerfile=" + scratch,
			}
		},
		lint:   lintBuildkit,
		byName: true,
	},
}

// chooseRuntimes are those named, or those whose command is here.
func chooseRuntimes(names []string) ([]nodeRuntime, error) {
	var chosen []nodeRuntime
	var known []string
	for _, r := range nodeRuntimes {
		known = append(known, r.name)
		_, err := exec.LookPath(r.command)
		if slices.Contains(names, r.name) || len(names) == 0 && err == nil {
			chosen = append(chosen, r)
		}
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, exit.With(
				exit.Denied,
				fmt.Errorf("runtime %q is not known; doctor knows %s", n, strings.Join(known, ", ")))
		}
	}
	return chosen, nil
}

type attempt struct {
	pulled   bool
	unusable string // why the runtime could not be tried at all
	command  string
	output   string
}

// maxOutput is how much of a runtime's output is kept, in bytes.
const maxOutput = 2000

// try pulls an image and removes it again.
func (d *doctor) try(ctx context.Context, r nodeRuntime, image string) attempt {
	path, err := exec.LookPath(r.command)
	if err != nil {
		return attempt{
			unusable: r.command + " is not on this node's PATH: run doctor where " + r.name + " is, or do not name it",
		}
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
	r.forget(ctx, path, image) // left over from an earlier, loose pull: it would answer for the registry
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	a.output = out.String()[max(0, out.Len()-maxOutput):]
	if err == nil {
		a.pulled = true
		r.forget(context.WithoutCancel(ctx), path, image) // the canary is to stay nowhere
		return a
	}
	a.unusable = unusable(ctx, err, a.output)
	return a
}

// unusable tells a runtime that cannot be used at all from a pull that failed.
func unusable(ctx context.Context, err error, output string) string {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "the pull did not end in time (--timeout)"
	case !errors.As(err, &exit):
		return err.Error()
	}
	if strings.Contains(output, "/v2/") {
		return "" // it has asked a registry
	}
	for _, known := range []struct{ sign, says string }{
		{
			"permission denied",
			"there is no right to use it: run doctor as root, or as who may pull",
		}, // first: others stand beside it
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
func (r nodeRuntime) forget(ctx context.Context, path, image string) {
	if r.remove == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_ = exec.CommandContext(ctx, path, r.remove(image)...).Run() // mostly there is nothing to remove
}

// file is a node's file as this process sees it.
func (d *doctor) file(name string) string { return filepath.Join(d.root, name) }

// lintContainerd reads the hosts.toml that decides about the canary's registry.
func lintContainerd(d *doctor) []string {
	if advice, found := lintHosts(d, "/etc/containerd/certs.d"); found {
		return advice
	}
	return []string{
		"no hosts.toml for " + d.image.Host + " below " + d.file(
			"/etc/containerd/certs.d",
		) + ": pulls go straight to the registry",
	}
}

func lintHosts(d *doctor, dir string) (advice []string, found bool) {
	for _, host := range []string{d.image.Host, "_default"} {
		name := d.file(dir + "/" + host + "/hosts.toml")
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var hosts struct {
			Server string                    `toml:"server"`
			Host   map[string]map[string]any `toml:"host"`
		}
		if err := toml.Unmarshal(text, &hosts); err != nil {
			return []string{name + " is not valid TOML: it is ignored, and pulls go to the registry"}, true
		}
		switch {
		case hosts.Server == "":
			advice = append(
				advice,
				name+" has no server: what the gate refuses is pulled from the registry itself; write server = \""+d.gate+"\"",
			)
		case strings.TrimSuffix(hosts.Server, "/") != d.gate:
			advice = append(
				advice,
				name+" has server "+hosts.Server+": what the gate refuses is pulled from there; write server = \""+d.gate+"\"",
			)
		}
		if _, ok := hosts.Host[d.gate]; !ok {
			advice = append(
				advice,
				name+" has no [host.\""+d.gate+"\"]: containerd 1.6 rejects the file and goes to the registry",
			)
		}
		for other := range hosts.Host {
			if other != d.gate {
				advice = append(advice, name+" also names "+other+", which is asked when the gate refuses")
			}
		}
		return advice, true
	}
	return nil, false
}

// lintDocker: a mirror that refuses is taken for one that failed. The hosts.toml
// is what Docker 29 reads.
func lintDocker(d *doctor) []string {
	advice, _ := lintHosts(d, "/etc/docker/certs.d")
	text, err := os.ReadFile(d.file("/etc/docker/daemon.json"))
	if err != nil {
		return advice // nothing configured: nothing wrong
	}
	var daemon struct {
		Mirrors []string `json:"registry-mirrors"`
	}
	if err := json.Unmarshal(text, &daemon); err != nil {
		return append(advice, d.file("/etc/docker/daemon.json")+" is not valid JSON")
	}
	if len(daemon.Mirrors) > 0 {
		advice = append(
			advice,
			"registry-mirrors do not hold: what a mirror refuses, Docker pulls from the registry; name images "+
				"through the gate and close the node's way to registries",
		)
	}
	return advice
}

// lintBuildkit: a mirror that refuses is taken for one that failed.
func lintBuildkit(d *doctor) []string {
	name := d.file("/etc/buildkit/buildkitd.toml")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil // nothing configured: nothing wrong
	}
	var daemon struct {
		Registry map[string]struct {
			Mirrors []string `toml:"mirrors"`
		} `toml:"registry"`
	}
	if err := toml.Unmarshal(text, &daemon); err != nil {
		return []string{name + " is not valid TOML"}
	}
	var advice []string
	for host, r := range daemon.Registry {
		if len(r.Mirrors) > 0 {
			advice = append(
				advice,
				name+" gives "+host+" mirrors: mirrors do not hold, what one refuses is pulled from the registry; "+
					"name images through the gate and close the builder's way to registries",
			)
		}
	}
	return advice
}

// lintContainersImage reads registries.conf and its drop-ins, for podman, buildah and skopeo.
func lintContainersImage(d *doctor) []string {
	files := []string{d.file("/etc/containers/registries.conf")}
	if more, err := filepath.Glob(d.file("/etc/containers/registries.conf.d/*.conf")); err == nil {
		files = append(files, more...)
	}
	held := false
	var advice []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var conf struct {
			Registry []struct {
				Prefix   string           `toml:"prefix"`
				Location string           `toml:"location"`
				Mirror   []map[string]any `toml:"mirror"`
			} `toml:"registry"`
		}
		if err := toml.Unmarshal(text, &conf); err != nil {
			advice = append(advice, name+" is not valid TOML")
			continue
		}
		for _, r := range conf.Registry {
			prefix := r.Prefix
			if prefix == "" {
				prefix = r.Location
			}
			if prefix != d.image.Host && !strings.HasPrefix(d.image.Repository.String(), prefix+"/") {
				continue
			}
			if len(r.Mirror) > 0 {
				advice = append(
					advice,
					name+" gives "+prefix+" a mirror: what a mirror refuses is pulled from the registry; use "+
						"location instead",
				)
			}
			held = held || strings.Contains(d.gate, strings.SplitN(r.Location, "/", 2)[0])
		}
	}
	if !held {
		advice = append(
			advice,
			"registries.conf does not send "+d.image.Host+" to the gate: pulls go straight to the registry",
		)
	}
	return advice
}
