// Package node knows container runtimes from a node's side: the files that hold
// each of them to the gate, and how to find out whether it is held. It does not
// know the gate from inside, and asks it over HTTP as a runtime does.
package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// File is one file of a node. Its text begins with a comment that says why it
// looks so.
type File struct {
	Path, Text string
	Secret     bool // only root may read it
}

// Setup is what holds one runtime to the gate.
type Setup struct {
	Files []File
	Notes []string // what has to be done besides, and what does not hold
}

// Plan is what a setup is for. NewPlan returns one that is checked.
type Plan struct {
	Gate      *url.URL
	Upstreams []string // hosts as images carry them
	CA        string   // PEM file of the gate's certificate authority, as the node has it
	Version   string   // of the runtime, or ""
	Identity

	Addresses []netip.Prefix // of registries, for nftables
	TLSPort   int            // of the gate's intercept.tlsListen on the node; 0: none
	GateUser  string         // as which the gate runs on the node
}

// Wish is a plan as people write it.
type Wish struct {
	Gate        string
	Upstreams   []string
	CA, Version string
	Identity    Identity
	Addresses   []string
	TLSPort     int
	GateUser    string
	Intercept   bool // the gate is the runtime's proxy
}

// NewPlan checks what people wrote.
func NewPlan(w Wish) (Plan, error) {
	u, err := url.Parse(w.Gate)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		const message = "--gate %q must be http:// or https://, a host and perhaps a port, e.g. http://127.0.0.1:5000"
		return Plan{}, fmt.Errorf(message, w.Gate)
	}
	if w.CA != "" && (u.Scheme != "https" && !w.Intercept || !filepath.IsAbs(w.CA)) {
		return Plan{}, errors.New("--ca is for an https gate, and must be the file's absolute path on the node")
	}
	addresses, err := w.firewall()
	if err != nil {
		return Plan{}, err
	}
	if len(w.Upstreams) == 0 {
		return Plan{}, errors.New("give at least one --upstream")
	}
	if err := w.Identity.check(u.Scheme, u.Hostname()); err != nil {
		return Plan{}, err
	}

	p := Plan{
		Gate:     &url.URL{Scheme: u.Scheme, Host: u.Host},
		CA:       w.CA,
		Version:  w.Version,
		Identity: w.Identity,

		Addresses: addresses,
		TLSPort:   w.TLSPort,
		GateUser:  w.GateUser,
	}
	for _, given := range w.Upstreams {
		host := policy.FamiliarHost(given)
		if _, err := policy.ParseRepository(host + "/x/y"); err != nil || strings.Contains(host, "/") {
			return Plan{}, fmt.Errorf("--upstream %q must be a registry's host as images carry it, e.g. ghcr.io", given)
		}
		p.Upstreams = append(p.Upstreams, host)
	}
	return p, nil
}

func (p Plan) insecure() bool { return p.Gate.Scheme == "http" }

// trustBelow is the command for runtimes that look for authorities in a folder
// named after the registry.
func (p Plan) trustBelow(dir string) string {
	dir += "/" + p.Gate.Host
	return fmt.Sprintf("mkdir -p %s && ln -s %s %s/ca.crt", dir, p.CA, dir)
}

var setups = map[string]func(Plan) (Setup, error){
	"containerd": containerdSetup,
	"k3s":        func(p Plan) (Setup, error) { return rancherSetup(p, "k3s"), nil },
	"rke2":       func(p Plan) (Setup, error) { return rancherSetup(p, "rke2"), nil },
	"cri-o":      func(p Plan) (Setup, error) { return crioSetup(p), nil },
	"podman":     func(p Plan) (Setup, error) { return podmanSetup(p), nil },
	"docker":     dockerSetup,
	"buildkit":   func(p Plan) (Setup, error) { return buildkitSetup(p), nil },
	"talos":      func(p Plan) (Setup, error) { return talosSetup(p), nil },
}

// SetupNames returns the runtimes that FindSetup knows, sorted.
func SetupNames() []string { return sortedNames(setups) }

func sortedNames[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// FindSetup returns what makes the setup of a runtime.
func FindSetup(runtime string) (func(Plan) (Setup, error), error) {
	setup, ok := setups[runtime]
	if !ok {
		return nil, fmt.Errorf("runtime %q is not known; known are %s", runtime, strings.Join(SetupNames(), ", "))
	}
	return setup, nil
}

// Write makes the files below dir, and returns the names of those that it has
// written, also when it fails half-way. It writes none of them if one of them is
// there already and says something else, and leaves alone what says the same.
func (s Setup) Write(dir string) (written []string, err error) {
	var missing []File
	for _, f := range s.Files {
		name := filepath.Join(dir, f.Path)
		old, err := os.ReadFile(name)
		switch {
		case err != nil:
			missing = append(missing, File{Path: name, Text: f.Text, Secret: f.Secret})
		case !bytes.Equal(old, []byte(f.Text)):
			const message = "%s is there already and says something else: bring the two together by hand; " +
				"nothing was written"
			return nil, fmt.Errorf(message, name)
		}
	}

	for _, f := range missing {
		mode := fs.FileMode(0o644)
		if f.Secret {
			mode = 0o600
		}
		err := os.MkdirAll(filepath.Dir(f.Path), 0o755)
		if err == nil {
			err = os.WriteFile(f.Path, []byte(f.Text), mode)
		}
		if errors.Is(err, fs.ErrPermission) {
			return written, fmt.Errorf("write node configuration: %w: run it as root", err)
		}
		if err != nil {
			return written, fmt.Errorf("write node configuration: %w", err)
		}
		written = append(written, f.Path)
	}
	return written, nil
}

// parseVersion reads the numbers of a runtime's version, or of another one where
// none was given.
func parseVersion(text, otherwise string) (major, minor int, err error) {
	if text == "" {
		text = otherwise
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(text, "v"), ".")
	second, _, _ := strings.Cut(rest, ".")

	major, err = strconv.Atoi(first)
	if err == nil && second != "" {
		minor, err = strconv.Atoi(second)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("--version %q is no version: write it like 1.6 or 29", text)
	}
	return major, minor, nil
}
