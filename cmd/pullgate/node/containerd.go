package node

import (
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// containerdHosts is where containerd looks for a hosts.toml of each registry.
const containerdHosts = "/etc/containerd/certs.d"

// hostsFiles has the gate asked for each upstream's images.
func hostsFiles(p Plan, dir string) []File {
	var files []File
	for _, host := range p.Upstreams {
		files = append(files, File{
			Path:   dir + "/" + host + "/hosts.toml",
			Text:   hostsTOML(p),
			Secret: p.Login != "",
		})
	}
	return files
}

// hostsTOML holds containerd 1.6 to 2: with the gate as server nothing else is
// left to ask, and without a [host] 1.6 rejects the file.
func hostsTOML(p Plan) string {
	var b strings.Builder
	b.WriteString("# The gate is the server too: what it refuses is asked for nowhere else.\n" +
		"# containerd 1.6 rejects a file without [host] and goes to the registry.\n")
	fmt.Fprintf(&b, "server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", p.Gate, p.Gate)
	if p.CA != "" {
		fmt.Fprintf(&b, "  ca = %q\n", p.CA)
	}
	b.WriteString(p.hostsIdentity())
	return b.String()
}

func containerdSetup(p Plan) (Setup, error) {
	major, minor, err := parseVersion(p.Version, "2")
	if err != nil {
		return Setup{}, err
	}

	section, number := "[plugins.\"io.containerd.cri.v1.images\".registry]", 3
	switch {
	case major == 1 && (minor == 6 || minor == 7):
		section, number = "[plugins.\"io.containerd.grpc.v1.cri\".registry]", 2
	case major != 2:
		return Setup{}, fmt.Errorf("containerd %s is not supported: 1.6, 1.7 and 2 are", p.Version)
	}

	s := Setup{Files: hostsFiles(p, containerdHosts)}
	s.Notes = []string{
		fmt.Sprintf("in /etc/containerd/config.toml (version = %d) let the kubelet's pulls read those files, then "+
			"restart containerd:\n\n%s\n  config_path = %q\n", number, section, containerdHosts),
		"ctr reads them only with --hosts-dir " + containerdHosts + "; a user who may run ctr on a node can leave " +
			"that out",
		"registries that are not listed are pulled from directly: list every one that images come from, or close " +
			"the node's way to the others",
	}
	return s, nil
}

// lintContainerd reads the hosts.toml that decides about the canary's registry.
func lintContainerd(d *Doctor) []string {
	if advice, found := lintHosts(d, containerdHosts); found {
		return advice
	}
	return []string{"no hosts.toml for " + d.image.Host + " below " + d.file(containerdHosts) +
		": pulls go straight to the registry"}
}

// lintHosts reads the hosts.toml below dir that decides about the canary's
// registry.
func lintHosts(d *Doctor, dir string) (advice []string, found bool) {
	for _, host := range []string{d.image.Host, "_default"} {
		name := d.file(dir + "/" + host + "/hosts.toml")
		if text, err := os.ReadFile(name); err == nil {
			return lintHostsFile(d.Gate, name, text), true
		}
	}
	return nil, false
}

func lintHostsFile(gate, name string, text []byte) (advice []string) {
	var hosts struct {
		Server string                    `toml:"server"`
		Host   map[string]map[string]any `toml:"host"`
	}
	if err := toml.Unmarshal(text, &hosts); err != nil {
		return []string{name + " is not valid TOML: it is ignored, and pulls go to the registry"}
	}

	instead := "; write server = \"" + gate + "\""
	switch {
	case hosts.Server == "":
		advice = append(advice,
			name+" has no server: what the gate refuses is pulled from the registry itself"+instead)
	case strings.TrimSuffix(hosts.Server, "/") != gate:
		advice = append(advice,
			name+" has server "+hosts.Server+": what the gate refuses is pulled from there"+instead)
	}

	if _, ok := hosts.Host[gate]; !ok {
		advice = append(advice,
			name+" has no [host.\""+gate+"\"]: containerd 1.6 rejects the file and goes to the registry")
	}
	for other := range hosts.Host {
		if other != gate {
			advice = append(advice, name+" also names "+other+", which is asked when the gate refuses")
		}
	}
	return advice
}
