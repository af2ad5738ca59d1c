package node

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Runtime is how one runtime is examined: with its own command, so that its own
// configuration decides.
type Runtime struct {
	name    string
	command string
	// pull returns the arguments of the command. scratch is a folder of this
	// attempt's own, with a Dockerfile that says FROM image.
	pull   func(d *Doctor, image, scratch string) []string
	remove func(image string) []string // nil where nothing stays that has a name
	lint   func(d *Doctor) []string    // nil where no file says which way it pulls
	byName bool                        // not every version is held by a file: the gate's name is tried as well
}

// doctorNamespace is containerd's namespace for what doctor pulls.
const doctorNamespace = "pullgate-doctor"

// runtimes returns every runtime that doctor knows.
func runtimes() []Runtime {
	return []Runtime{
		{
			name:    "crictl",
			command: "crictl", // the kubelet's way: containerd's CRI, or CRI-O
			pull:    pullImage,
			remove:  func(image string) []string { return []string{"rmi", image} },
		},
		{
			name:    "containerd",
			command: "ctr",
			pull: func(d *Doctor, image, _ string) []string {
				hosts := d.file(containerdHosts)
				return []string{"-n", doctorNamespace, "images", "pull", "--hosts-dir", hosts, image}
			},
			remove: func(image string) []string {
				return []string{"-n", doctorNamespace, "images", "rm", "--sync", image}
			},
			lint: lintContainerd,
		},
		{
			name:    "nerdctl",
			command: "nerdctl",
			pull: func(_ *Doctor, image, _ string) []string {
				return []string{"-n", doctorNamespace, "pull", image}
			},
			remove: func(image string) []string { return []string{"-n", doctorNamespace, "rmi", "-f", image} },
			lint:   lintContainerd,
		},
		{
			name:    "docker",
			command: "docker",
			pull:    pullImage,
			remove:  forceRemove,
			lint:    lintDocker,
			byName:  true,
		},
		{
			name:    "podman",
			command: "podman",
			pull:    pullImage,
			remove:  forceRemove,
			lint:    lintContainersImage,
		},
		{
			name:    "buildah",
			command: "buildah",
			pull:    func(_ *Doctor, image, _ string) []string { return []string{"pull", "--policy", "always", image} },
			remove:  forceRemove,
			lint:    lintContainersImage,
		},
		{
			name:    "skopeo",
			command: "skopeo",
			pull: func(_ *Doctor, image, scratch string) []string {
				return []string{"copy", "docker://" + image, "dir:" + filepath.Join(scratch, "image")}
			},
			lint: lintContainersImage,
		},
		{
			name:    "buildkit",
			command: "buildctl",
			pull:    buildFrom,
			lint:    lintBuildkit,
			byName:  true,
		},
	}
}

func pullImage(_ *Doctor, image, _ string) []string { return []string{"pull", image} }

func forceRemove(image string) []string { return []string{"rmi", "-f", image} }

// buildFrom makes BuildKit build the Dockerfile in scratch.
func buildFrom(_ *Doctor, _, scratch string) []string {
	return []string{
		"build",
		"--no-cache",
		"--progress", "plain",
		"--frontend", "dockerfile.v0",
		"--local", "context=" + scratch,
		"--local", "dockerfile=" + scratch,
	}
}

// RuntimeNames returns the runtimes that doctor knows.
func RuntimeNames() []string {
	var names []string
	for _, r := range runtimes() {
		names = append(names, r.name)
	}
	return names
}

// ChooseRuntimes returns the runtimes that are named, or, without names, those
// whose command is found.
func ChooseRuntimes(names []string) ([]Runtime, error) {
	var chosen []Runtime
	known := RuntimeNames()
	for _, r := range runtimes() {
		_, err := exec.LookPath(r.command)
		if slices.Contains(names, r.name) || len(names) == 0 && err == nil {
			chosen = append(chosen, r)
		}
	}

	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("runtime %q is not known; doctor knows %s", n, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
