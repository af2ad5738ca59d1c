package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// interceptions are the setups for runtimes whose proxy is the gate: image names
// stay as they are, and a gate that is down or refuses ends the pull, since none of
// these goes around a proxy.
var interceptions = map[string]func(Plan) Setup{
	"containerd": func(p Plan) Setup { return serviceSetup(p, "containerd") },
	"docker":     func(p Plan) Setup { return serviceSetup(p, "docker") },
	"cri-o":      func(p Plan) Setup { return serviceSetup(p, "crio") },
	"buildkit":   func(p Plan) Setup { return serviceSetup(p, "buildkit") },
	"podman":     podmanProxySetup,
	"k3s":        func(p Plan) Setup { return rancherProxySetup(p, "k3s") },
	"rke2":       func(p Plan) Setup { return rancherProxySetup(p, "rke2-server", "rke2-agent") },
	"talos":      talosProxySetup,
	"nftables":   nftablesSetup,
}

// InterceptionNames returns the runtimes that can have the gate for their proxy,
// and nftables, sorted.
func InterceptionNames() []string { return sortedNames(interceptions) }

// FindInterception returns what makes the setup of a runtime whose proxy is the
// gate.
func FindInterception(runtime string) (func(Plan) (Setup, error), error) {
	setup, ok := interceptions[runtime]
	if !ok {
		return nil, fmt.Errorf("runtime %q is not known with --intercept; known are %s",
			runtime, strings.Join(InterceptionNames(), ", "))
	}
	return func(p Plan) (Setup, error) {
		switch {
		case !p.insecure():
			return Setup{}, errors.New("--intercept wants the gate's intercept.listen for --gate: " +
				"http://HOST:PORT; what is within is TLS")
		case p.CA == "":
			return Setup{}, errors.New("--intercept wants --ca, the file on the node with the certificate that " +
				"`pullgate ca` has made")
		case p.Cert != "":
			return Setup{}, errors.New("--intercept takes no --cert: a proxy is shown a password or a token (--login)")
		}
		return setup(p), nil
	}, nil
}

// proxyURL is what runtimes are given, with the name that they show.
func (p Plan) proxyURL() string {
	u := *p.Gate
	if user, password, ok := strings.Cut(p.Login, ":"); ok {
		return u.Scheme + "://" + escapeUser(user) + ":" + escapeUser(password) + "@" + u.Host
	}
	return u.String()
}

// escapeUser leaves what every program reads alike.
func escapeUser(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// apart is what is not asked through the proxy: the node itself, and nothing else,
// because a registry in one of the networks would be left out, too.
const apart = "localhost,127.0.0.1,::1"

var proxyVariables = []string{"HTTPS_PROXY", "HTTP_PROXY"}

// trustNotes say where the authority goes.
func (p Plan) trustNotes() []string {
	return []string{
		"let the node trust the gate's certificate authority, which is good for the upstreams alone: " +
			"Debian, Ubuntu, Alpine: cp " + p.CA + " /usr/local/share/ca-certificates/pullgate.crt && " +
			"update-ca-certificates; " +
			"Fedora, RHEL: cp " + p.CA + " /etc/pki/ca-trust/source/anchors/pullgate.pem && update-ca-trust; " +
			"SUSE: cp " + p.CA + " /etc/pki/trust/anchors/pullgate.pem && update-ca-certificates",
		"whoever can change the runtime's environment can take the proxy out: close the node's way to registries, " +
			"`pullgate node-config nftables --intercept` prints how",
	}
}

// serviceSetup gives a systemd service the proxy.
func serviceSetup(p Plan, service string) Setup {
	var b strings.Builder
	b.WriteString("# The gate ends TLS for its upstreams and refuses all other hosts: no image comes\n" +
		"# past it.\n[Service]\n")
	for _, name := range proxyVariables {
		// systemd takes % for a specifier of its own.
		fmt.Fprintf(&b, "Environment=%q\n", name+"="+strings.ReplaceAll(p.proxyURL(), "%", "%%"))
	}
	fmt.Fprintf(&b, "Environment=%q\n", "NO_PROXY="+apart)

	return Setup{
		Files: []File{{
			Path:   "/etc/systemd/system/" + service + ".service.d/pullgate.conf",
			Text:   b.String(),
			Secret: p.Login != "",
		}},
		Notes: append(p.trustNotes(), "systemctl daemon-reload && systemctl restart "+service),
	}
}

// podmanProxySetup is for programs without a service.
func podmanProxySetup(p Plan) Setup {
	var pairs []string
	for _, name := range proxyVariables {
		pairs = append(pairs, fmt.Sprintf("%q", name+"="+p.proxyURL()))
	}
	pairs = append(pairs, fmt.Sprintf("%q", "NO_PROXY="+apart))
	return Setup{
		Files: []File{{
			Path: "/etc/containers/containers.conf.d/pullgate.conf",
			Text: "# The gate ends TLS for its upstreams and refuses all other hosts. Containers do not\n" +
				"# get the proxy: they are none of its business.\n[containers]\nhttp_proxy = false\n\n" +
				"[engine]\nenv = [" + strings.Join(pairs, ", ") + "]\n",
			Secret: p.Login != "",
		}},
		Notes: append(p.trustNotes(),
			"Skopeo and Buildah do not read it: give them HTTPS_PROXY="+p.Gate.String()+" in their environment"),
	}
}

// rancherProxySetup is for k3s and RKE2, which hand variables that begin with
// CONTAINERD_ to containerd. It is not measured here: it follows their
// documentation.
func rancherProxySetup(p Plan, services ...string) Setup {
	var s Setup
	for _, service := range services {
		var b strings.Builder
		b.WriteString("# For containerd alone: the cluster's own requests do not go through the gate.\n")
		for _, name := range proxyVariables {
			fmt.Fprintf(&b, "CONTAINERD_%s=%s\n", name, p.proxyURL())
		}
		fmt.Fprintf(&b, "CONTAINERD_NO_PROXY=%s\n", apart)
		s.Files = append(s.Files, File{Path: "/etc/default/" + service, Text: b.String(), Secret: p.Login != ""})
	}
	s.Notes = append(p.trustNotes(),
		"restart "+strings.Join(services, " or "),
		"not measured by this project: let `pullgate doctor crictl` tell whether it holds")
	return s
}

// talosProxySetup is not measured here: it follows the documentation of Talos.
func talosProxySetup(p Plan) Setup {
	var b strings.Builder
	b.WriteString("# The gate ends TLS for its upstreams and refuses all other hosts.\nmachine:\n  env:\n")
	for _, name := range append([]string{}, proxyVariables...) {
		fmt.Fprintf(&b, "    %s: %q\n", strings.ToLower(name), p.proxyURL())
	}
	fmt.Fprintf(&b, "    no_proxy: %q\n", apart)
	return Setup{
		Files: []File{{Path: "/pullgate.patch.yaml", Text: b.String(), Secret: p.Login != ""}},
		Notes: []string{
			"let the node trust the gate's certificate authority: a TrustedRootsConfig document (talos.dev " +
				"v1alpha1) with the text of the file under certificates",
			"apply it: talosctl patch machineconfig --patch @pullgate.patch.yaml",
			"not measured by this project: let `pullgate doctor` tell whether it holds",
		},
	}
}

// nftablesSetup closes the node's way to registries for all but the gate.
func nftablesSetup(p Plan) Setup {
	var four, six []string
	for _, a := range p.Addresses {
		if a.Addr().Is4() {
			four = append(four, a.String())
		} else {
			six = append(six, a.String())
		}
	}
	var b strings.Builder
	b.WriteString("# Registries are reached by the gate's own user alone. Their addresses are those that\n" +
		"# --address named.\ntable inet pullgate {\n")
	b.WriteString(addressSet("registries4", "ipv4_addr", four) + addressSet("registries6", "ipv6_addr", six))
	if p.TLSPort != 0 {
		fmt.Fprintf(&b, "\tchain redirects {\n\t\ttype nat hook output priority -100; policy accept;\n"+
			"\t\tmeta skuid %[1]q accept\n"+
			"\t\tip daddr @registries4 tcp dport 443 redirect to :%[2]d\n"+
			"\t\tip6 daddr @registries6 tcp dport 443 redirect to :%[2]d\n\t}\n", p.GateUser, p.TLSPort)
	}
	fmt.Fprintf(&b, "\tchain closes {\n\t\ttype filter hook output priority 0; policy accept;\n"+
		"\t\tmeta skuid %q accept\n"+
		"\t\tip daddr @registries4 tcp dport { 80, 443 } reject with tcp reset\n"+
		"\t\tip6 daddr @registries6 tcp dport { 80, 443 } reject with tcp reset\n"+
		"\t\tip daddr @registries4 udp dport 443 reject\n"+
		"\t\tip6 daddr @registries6 udp dport 443 reject\n\t}\n}\n", p.GateUser)

	notes := []string{
		"load it: nft -f /etc/nftables.d/pullgate.nft, and include it from /etc/nftables.conf",
		"it is about what the node itself sends, as the kubelet's pulls are; containers are routed past it",
	}
	if len(p.Addresses) == 0 {
		notes = append(notes, "it closes nothing yet: name the registries' networks by --address")
	}
	if p.TLSPort == 0 {
		notes = append(notes, "with --tls-port, the port of the gate's intercept.tlsListen on this node, what goes to "+
			"registries is led to the gate instead of refused")
	}
	return Setup{Files: []File{{Path: "/etc/nftables.d/pullgate.nft", Text: b.String()}}, Notes: notes}
}

func addressSet(name, kind string, elements []string) string {
	list := ""
	if len(elements) > 0 {
		list = "\n\t\telements = { " + strings.Join(elements, ", ") + " }"
	}
	return fmt.Sprintf("\tset %s {\n\t\ttype %s\n\t\tflags interval%s\n\t}\n", name, kind, list)
}

// firewall checks what is for nftables alone, and reads the addresses.
func (w Wish) firewall() ([]netip.Prefix, error) {
	switch {
	case w.TLSPort < 0 || w.TLSPort > 65535:
		return nil, errors.New("--tls-port must be a port")
	case strings.ContainsAny(w.GateUser, "\"\n\\"):
		return nil, errors.New("--gate-user must be a user's name or number")
	}
	return parseAddresses(w.Addresses)
}

// parseAddresses reads networks and addresses.
func parseAddresses(texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("--address %q is neither an address nor a network", text)
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}
