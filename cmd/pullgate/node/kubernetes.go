package node

import (
	"fmt"
	"strings"
)

// rancherSetup is for k3s and RKE2, which write containerd's files from their own.
// It is not measured here: it follows their documentation.
func rancherSetup(p Plan, name string) Setup {
	var b strings.Builder
	b.WriteString("# " + name + " writes containerd's hosts.toml from this file. The registry itself stays a last\n" +
		"# resort unless the node runs with disable-default-registry-endpoint (below).\nmirrors:\n")
	for _, host := range p.Upstreams {
		fmt.Fprintf(&b, "  %q:\n    endpoint: [%q]\n", host, p.Gate)
	}
	if p.CA != "" {
		fmt.Fprintf(&b, "configs:\n  %q:\n    tls: {ca_file: %q}\n", p.Gate.Host, p.CA)
	}

	dir := "/etc/rancher/" + name
	return Setup{
		Files: []File{
			{dir + "/registries.yaml", b.String()},
			{
				dir + "/config.yaml.d/pullgate.yaml",
				"# Without this, what the gate refuses is pulled from the registry itself.\n" +
					"disable-default-registry-endpoint: true\n",
			},
		},
		Notes: []string{
			"restart " + name + " on every node; disable-default-registry-endpoint needs a release of 2024 or later",
			"not measured by this project: let `pullgate doctor crictl` tell whether it holds",
		},
	}
}

// talosSetup is not measured here: it follows the documentation of Talos.
func talosSetup(p Plan) Setup {
	var b strings.Builder
	b.WriteString("# skipFallback: what the gate refuses is asked for nowhere else.\n" +
		"machine:\n  registries:\n    mirrors:\n")
	for _, host := range p.Upstreams {
		fmt.Fprintf(&b, "      %s:\n        endpoints: [%q]\n        skipFallback: true\n", host, p.Gate)
	}

	return Setup{
		Files: []File{{"/pullgate.patch.yaml", b.String()}},
		Notes: []string{
			"apply it: talosctl patch machineconfig --patch @pullgate.patch.yaml",
			"not measured by this project: let `pullgate doctor` tell whether it holds",
		},
	}
}
