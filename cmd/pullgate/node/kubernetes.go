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
	b.WriteString(rancherGate(p))

	dir := "/etc/rancher/" + name
	return Setup{
		Files: []File{
			{Path: dir + "/registries.yaml", Text: b.String(), Secret: p.Login != ""},
			{
				Path: dir + "/config.yaml.d/pullgate.yaml",
				Text: "# Without this, what the gate refuses is pulled from the registry itself.\n" +
					"disable-default-registry-endpoint: true\n",
			},
		},
		Notes: []string{
			"restart " + name + " on every node; disable-default-registry-endpoint needs a release of 2024 or later",
			"not measured by this project: let `pullgate doctor crictl` tell whether it holds",
		},
	}
}

// rancherGate is whom the gate is trusted by, and what is shown to it.
func rancherGate(p Plan) string {
	var tls []string
	if p.CA != "" {
		tls = append(tls, fmt.Sprintf("ca_file: %q", p.CA))
	}
	if p.Cert != "" {
		tls = append(tls, fmt.Sprintf("cert_file: %q, key_file: %q", p.Cert, p.Key))
	}
	if len(tls) == 0 && p.Login == "" {
		return ""
	}

	text := fmt.Sprintf("configs:\n  %q:\n", p.Gate.Host)
	if len(tls) > 0 {
		text += "    tls: {" + strings.Join(tls, ", ") + "}\n"
	}
	if p.Login != "" {
		text += fmt.Sprintf("    auth: {auth: %q}\n", p.basic())
	}
	return text
}

// talosSetup is not measured here: it follows the documentation of Talos.
func talosSetup(p Plan) Setup {
	var b strings.Builder
	b.WriteString("# skipFallback: what the gate refuses is asked for nowhere else.\n" +
		"machine:\n  registries:\n    mirrors:\n")
	for _, host := range p.Upstreams {
		fmt.Fprintf(&b, "      %s:\n        endpoints: [%q]\n        skipFallback: true\n", host, p.Gate)
	}

	if p.Login != "" {
		fmt.Fprintf(&b, "    config:\n      %q:\n        auth: {auth: %q}\n", p.Gate.Host, p.basic())
	}

	var notes []string
	if p.Cert != "" {
		notes = append(notes, "a client's certificate goes into the patch itself: machine.registries.config."+
			"\""+p.Gate.Host+"\".tls.clientIdentity, crt and key in base64")
	}
	return Setup{
		Files: []File{{Path: "/pullgate.patch.yaml", Text: b.String(), Secret: p.Login != ""}},
		Notes: append(notes,
			"apply it: talosctl patch machineconfig --patch @pullgate.patch.yaml",
			"not measured by this project: let `pullgate doctor` tell whether it holds",
		),
	}
}
