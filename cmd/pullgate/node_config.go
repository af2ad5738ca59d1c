package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pullgate/pullgate/cmd/pullgate/exit"
	"github.com/pullgate/pullgate/policy"
)

// nodeFile is one file of a node. Its text begins with a comment that says why
// it looks so.
type nodeFile struct{ path, text string }

// nodeSetup is what holds one runtime to the gate.
type nodeSetup struct {
	files []nodeFile
	notes []string // what has to be done besides, and what does not hold
}

// nodePlan is what the command was asked for.
type nodePlan struct {
	gate      *url.URL
	upstreams []string
	ca        string // PEM file of the gate's certificate authority, as the node has it
	version   string
}

var nodePrinters = map[string]func(nodePlan) (nodeSetup, error){
	"containerd": containerdSetup,
	"k3s":        func(p nodePlan) (nodeSetup, error) { return rancherSetup(p, "k3s") },
	"rke2":       func(p nodePlan) (nodeSetup, error) { return rancherSetup(p, "rke2") },
	"cri-o":      crioSetup,
	"podman":     podmanSetup,
	"docker":     dockerSetup,
	"buildkit":   buildkitSetup,
	"talos":      talosSetup,
}

func nodeRuntimeNames() []string {
	var names []string
	for n := range nodePrinters {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func nodeConfigCommand() *cobra.Command {
	var plan nodePlan
	var gate, dir string
	cmd := &cobra.Command{
		Use:   "node-config RUNTIME --gate URL",
		Short: "Print the files that make a runtime pull through the gate, and nowhere else",
		Long: `node-config prints the files, with their paths, that hold a runtime to the gate:
a pull ends when the gate refuses or is down. It says why each looks as it does,
and where a runtime cannot be held by its configuration, what holds it instead.

RUNTIME is one of: ` + strings.Join(nodeRuntimeNames(), ", ") + `.

Whether a node really is held, ` + "`pullgate doctor`" + ` finds out.`,
		Example: "  pullgate node-config containerd --version 1.6 --gate http://127.0.0.1:5000 --upstream ghcr.io\n" +
			"  pullgate node-config podman --gate https://gate.example:5000 --ca /etc/pullgate/ca.pem --write /",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			printer, ok := nodePrinters[args[0]]
			if !ok {
				return exit.With(
					exit.Denied,
					fmt.Errorf(
						"runtime %q is not known; known are %s",
						args[0],
						strings.Join(nodeRuntimeNames(), ", "),
					))
			}
			if err := plan.read(gate); err != nil {
				return exit.With(exit.Denied, err)
			}
			setup, err := printer(plan)
			if err != nil {
				return exit.With(exit.Denied, err)
			}
			if dir != "" {
				if err := setup.write(dir); err != nil {
					return exit.With(exit.Denied, err)
				}
			}
			return setup.print(cmd.OutOrStdout(), dir)
		},
	}
	f := cmd.Flags()
	f.StringVar(&gate, "gate", "", "the gate's `URL` as the node reaches it, e.g. http://127.0.0.1:5000")
	f.StringSliceVar(
		&plan.upstreams,
		"upstream",
		[]string{"docker.io"},
		"a registry `HOST` whose images go through the gate; may be repeated",
	)
	f.StringVar(&plan.ca, "ca", "", "the `FILE` on the node with the certificate authority of an https gate")
	f.StringVar(
		&plan.version,
		"version",
		"",
		"the runtime's `VERSION`, where it matters: containerd 1.6, 1.7 or 2; docker 29",
	)
	f.StringVar(&dir, "write", "", "also write the files below `DIR`; files that say something else are left alone")
	return cmd
}

func (p *nodePlan) read(gate string) error {
	u, err := url.Parse(gate)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" ||
		u.User != nil {
		return fmt.Errorf(
			"--gate %q must be http:// or https://, a host and perhaps a port, e.g. http://127.0.0.1:5000",
			gate,
		)
	}
	p.gate = &url.URL{Scheme: u.Scheme, Host: u.Host}
	if p.ca != "" && (u.Scheme != "https" || !filepath.IsAbs(p.ca)) {
		return errors.New("--ca is for an https gate, and must be the file's absolute path on the node")
	}
	if len(p.upstreams) == 0 {
		return errors.New("give at least one --upstream")
	}
	for i, h := range p.upstreams {
		h = policy.FamiliarHost(h)
		if _, err := policy.ParseRepository(h + "/x/y"); err != nil || strings.Contains(h, "/") {
			return fmt.Errorf(
				"--upstream %q must be a registry's host as images carry it, e.g. ghcr.io",
				p.upstreams[i],
			)
		}
		p.upstreams[i] = h
	}
	return nil
}

func (p nodePlan) insecure() bool { return p.gate.Scheme == "http" }

func (s nodeSetup) print(w io.Writer, dir string) error {
	for _, f := range s.files {
		fmt.Fprintf(w, "==> %s\n%s\n", filepath.Join(dir, f.path), f.text)
	}
	for _, n := range s.notes {
		if _, err := fmt.Fprintf(w, "note: %s\n", n); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// write makes the files below dir, all or none of those that can be seen to be
// in the way beforehand.
func (s nodeSetup) write(dir string) error {
	for _, f := range s.files {
		old, err := os.ReadFile(filepath.Join(dir, f.path))
		if err == nil && !bytes.Equal(old, []byte(f.text)) {
			return fmt.Errorf(
				"%s is there already and says something else: bring the two together by hand; nothing was written",
				filepath.Join(dir, f.path),
			)
		}
	}
	for _, f := range s.files {
		name := filepath.Join(dir, f.path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("write node configuration: %w", err)
		}
		if err := os.WriteFile(name, []byte(f.text), 0o644); err != nil {
			return fmt.Errorf("write node configuration: %w", err)
		}
	}
	return nil
}

// hostsTOML holds containerd 1.6 to 2: with the gate as server nothing else is
// left to ask, and without a [host] 1.6 rejects the file.
func hostsTOML(p nodePlan) string {
	var b strings.Builder
	b.WriteString(
		"# The gate is the server too: what it refuses is asked of nobody else.\n" +
			"# containerd 1.6 rejects a file without [host] and goes to the registry.\n",
	)
	fmt.Fprintf(&b, "server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", p.gate, p.gate)
	if p.ca != "" {
		fmt.Fprintf(&b, "  ca = %q\n", p.ca)
	}
	return b.String()
}

func containerdSetup(p nodePlan) (nodeSetup, error) {
	major, minor, err := versionOf(p.version, "2")
	if err != nil {
		return nodeSetup{}, err
	}
	section := "[plugins.\"io.containerd.cri.v1.images\".registry]"
	number := 3
	switch {
	case major == 1 && (minor == 6 || minor == 7):
		section, number = "[plugins.\"io.containerd.grpc.v1.cri\".registry]", 2
	case major != 2:
		return nodeSetup{}, fmt.Errorf("containerd %s is not supported: 1.6, 1.7 and 2 are", p.version)
	}
	var s nodeSetup
	for _, host := range p.upstreams {
		s.files = append(s.files, nodeFile{"/etc/containerd/certs.d/" + host + "/hosts.toml", hostsTOML(p)})
	}
	s.notes = []string{
		fmt.Sprintf(
			"in /etc/containerd/config.toml (version = %d) let the kubelet's pulls read those files, then restart "+
				"containerd:\n\n%s\n  config_path = \"/etc/containerd/certs.d\"\n",
			number,
			section,
		),
		"ctr reads them only with --hosts-dir /etc/containerd/certs.d; whoever may run ctr on a node can leave " +
			"that out",
		"registries that are not listed are pulled from directly: list every one that images come from, or close " +
			"the node's way to the others",
	}
	return s, nil
}

func versionOf(text, otherwise string) (major, minor int, err error) {
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

// rancherSetup is k3s and RKE2, which write containerd's files from their own.
// Not measured here: as their documentation has it.
func rancherSetup(p nodePlan, name string) (nodeSetup, error) {
	var b strings.Builder
	b.WriteString(
		"# " + name + " writes containerd's hosts.toml from this file. The registry itself stays a last\n" +
			"# resort unless the node runs with disable-default-registry-endpoint (below).\nmirrors:\n",
	)
	for _, host := range p.upstreams {
		fmt.Fprintf(&b, "  %q:\n    endpoint: [%q]\n", host, p.gate)
	}
	if p.ca != "" {
		fmt.Fprintf(&b, "configs:\n  %q:\n    tls: {ca_file: %q}\n", p.gate.Host, p.ca)
	}
	return nodeSetup{
		files: []nodeFile{
			{"/etc/rancher/" + name + "/registries.yaml", b.String()},
			{
				"/etc/rancher/" + name + "/config.yaml.d/pullgate.yaml",
				"# Without this, what the gate refuses is pulled from the registry itself.\n" +
					"disable-default-registry-endpoint: true\n",
			},
		},
		notes: []string{
			"restart " + name + " on every node; disable-default-registry-endpoint needs a release of 2024 or later",
			"not measured by this project: let `pullgate doctor crictl` tell whether it holds",
		},
	}, nil
}

// registriesConf is containers/image's: location replaces the registry, where a
// mirror would only stand before it.
func registriesConf(p nodePlan) nodeFile {
	var b strings.Builder
	b.WriteString(
		"# location, not [[registry.mirror]]: a mirror that refuses is passed over, and the\n" +
			"# image comes from the registry itself.\n",
	)
	for _, host := range p.upstreams {
		fmt.Fprintf(&b, "[[registry]]\nprefix = %q\nlocation = %q\n", host, p.gate.Host+"/"+host)
		if p.insecure() {
			b.WriteString("insecure = true\n")
		}
	}
	return nodeFile{"/etc/containers/registries.conf.d/900-pullgate.conf", b.String()}
}

// trustBelow is the command for runtimes that look for authorities in a folder
// named after the registry.
func (p nodePlan) trustBelow(dir string) string {
	dir += "/" + p.gate.Host
	return fmt.Sprintf("mkdir -p %s && ln -s %s %s/ca.crt", dir, p.ca, dir)
}

func containersCA(p nodePlan) []string {
	if p.ca == "" {
		return nil
	}
	return []string{"let containers/image trust the gate: " + p.trustBelow("/etc/containers/certs.d")}
}

func podmanSetup(p nodePlan) (nodeSetup, error) {
	return nodeSetup{files: []nodeFile{registriesConf(p)}, notes: append(containersCA(p),
		"it holds for Buildah and Skopeo too; a user's own ~/.config/containers/registries.conf goes before it")}, nil
}

func crioSetup(p nodePlan) (nodeSetup, error) {
	return nodeSetup{files: []nodeFile{registriesConf(p)}, notes: append(
		containersCA(p),
		"reload CRI-O: systemctl reload crio",
		"not measured by this project, beyond Podman, which reads the same file: let `pullgate doctor crictl` tell "+
			"whether it holds",
	)}, nil
}

// dockerSetup has no file that holds before Docker 29: registry-mirrors are
// passed over on any error. Since then its containerd image store reads hosts.toml.
func dockerSetup(p nodePlan) (nodeSetup, error) {
	major, _, err := versionOf(p.version, "20.10")
	if err != nil {
		return nodeSetup{}, err
	}
	if major >= 29 {
		return dockerHostsSetup(p), nil
	}
	var s nodeSetup
	host := p.gate.Hostname()
	switch {
	case p.insecure() && host != "localhost" && !strings.HasPrefix(host, "127."):
		s.files = append(s.files, nodeFile{
			"/etc/docker/daemon.json",
			fmt.Sprintf("{\n  \"insecure-registries\": [%q]\n}\n", p.gate.Host),
		})
	case p.ca != "":
		s.notes = append(s.notes, "let Docker trust the gate: "+p.trustBelow("/etc/docker/certs.d"))
	}
	s.notes = append(s.notes,
		"registry-mirrors do NOT hold: what a mirror refuses, Docker pulls from the registry without a word",
		fmt.Sprintf("name images through the gate instead: docker pull %s/%s/team/app:v1", p.gate.Host, p.upstreams[0]),
		"close the node's way to registries, so that other names lead nowhere",
		"Docker pulls an image that was removed again by its digest from manifests it has kept: prune what was revoked",
		"Docker 29 can be held by files: --version 29 prints them",
	)
	return s, nil
}

func dockerHostsSetup(p nodePlan) nodeSetup {
	var s nodeSetup
	for _, host := range p.upstreams {
		s.files = append(s.files, nodeFile{"/etc/docker/certs.d/" + host + "/hosts.toml", hostsTOML(p)})
	}
	s.notes = []string{
		"only Docker's containerd image store reads these files. It is the default of a new installation of Docker " +
			"29; `docker info` then has a driver-type io.containerd.snapshotter. With another store every pull " +
			"goes to the registry",
		"remove registry-mirrors from /etc/docker/daemon.json: they do NOT hold",
		"registries that are not listed are pulled from directly: list every one that images come from, or close " +
			"the node's way to the others",
	}
	return s
}

// buildkitPolicy is where node-config puts the source policy.
const buildkitPolicy = "/etc/buildkit/pullgate-policy.json"

func buildkitSetup(p nodePlan) (nodeSetup, error) {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		"# Names that carry the gate's host are pulled from it. A mirrors entry would not hold:\n"+
			"# what a mirror refuses, BuildKit pulls from the registry.\n[registry.%q]\n",
		p.gate.Host,
	)
	if p.insecure() {
		b.WriteString("  http = true\n")
	}
	if p.ca != "" {
		fmt.Fprintf(&b, "  ca = [%q]\n", p.ca)
	}
	var rules []string
	for _, host := range p.upstreams {
		rules = append(
			rules,
			fmt.Sprintf(
				"  {\"action\": \"CONVERT\",\n   \"selector\": {\"identifier\": \"docker-image://%s/*\"},\n"+
					"   \"updates\": {\"identifier\": \"docker-image://%s/%s/${1}\"}}",
				host,
				p.gate.Host,
				host,
			),
		)
	}
	policy := "{\"rules\": [\n" + strings.Join(rules, ",\n") + "\n]}\n"
	return nodeSetup{
		files: []nodeFile{{"/etc/buildkit/buildkitd.toml", b.String()}, {buildkitPolicy, policy}},
		notes: []string{
			"mirrors do NOT hold: what a mirror refuses, BuildKit pulls from the registry",
			fmt.Sprintf(
				"name images through the gate in Dockerfiles: FROM %s/%s/team/app:v1",
				p.gate.Host,
				p.upstreams[0],
			),
			"or leave names as they are and build with the source policy, which puts the gate's before them: " +
				"buildctl build --source-policy-file " + buildkitPolicy,
			"a build that does neither is held by no file: close the builder's way to registries",
		},
	}, nil
}

// talosSetup is not measured here: as its documentation has it.
func talosSetup(p nodePlan) (nodeSetup, error) {
	var b strings.Builder
	b.WriteString(
		"# skipFallback: what the gate refuses is asked of nobody else.\nmachine:\n  registries:\n    mirrors:\n",
	)
	for _, host := range p.upstreams {
		fmt.Fprintf(&b, "      %s:\n        endpoints: [%q]\n        skipFallback: true\n", host, p.gate)
	}
	return nodeSetup{files: []nodeFile{{"/pullgate.patch.yaml", b.String()}}, notes: []string{
		"apply it: talosctl patch machineconfig --patch @pullgate.patch.yaml",
		"not measured by this project: let `pullgate doctor` tell whether it holds",
	}}, nil
}
