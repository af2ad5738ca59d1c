package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// registriesConf is for containers/image: location replaces the registry, where a
// mirror would only stand before it.
func registriesConf(p Plan) File {
	var b strings.Builder
	b.WriteString("# location, not [[registry.mirror]]: a mirror that refuses is passed over, and the\n" +
		"# image comes from the registry itself.\n")
	for _, host := range p.Upstreams {
		fmt.Fprintf(&b, "[[registry]]\nprefix = %q\nlocation = %q\n", host, p.Gate.Host+"/"+host)
		if p.insecure() {
			b.WriteString("insecure = true\n")
		}
	}
	return File{Path: "/etc/containers/registries.conf.d/900-pullgate.conf", Text: b.String()}
}

// containersTrust is what containers/image finds by its place.
func containersTrust(p Plan) []string {
	const dir = "/etc/containers/certs.d"
	var notes []string
	if p.CA != "" {
		notes = append(notes, "let containers/image trust the gate: "+p.trustBelow(dir))
	}
	if p.Cert != "" {
		notes = append(notes, "let containers/image show the certificate to the gate: "+p.certificateBelow(dir))
	}
	return notes
}

func podmanSetup(p Plan) Setup {
	notes := containersTrust(p)
	if p.Login != "" {
		notes = append(notes, "let Podman show the password to the gate: REGISTRY_AUTH_FILE="+clientAuth+
			" in the environment, or podman login "+p.Gate.Host)
	}
	return Setup{
		Files: append(p.authFile(), registriesConf(p)),
		Notes: append(notes,
			"it holds for Buildah and Skopeo too; a user's own ~/.config/containers/registries.conf goes before it"),
	}
}

func crioSetup(p Plan) Setup {
	files := append(p.authFile(), registriesConf(p))
	if p.Login != "" {
		files = append(files, File{
			Path: "/etc/crio/crio.conf.d/90-pullgate.conf",
			Text: "# Where the password for the gate is.\n[crio.image]\n" +
				fmt.Sprintf("global_auth_file = %q\n", clientAuth),
		})
	}
	return Setup{
		Files: files,
		Notes: append(containersTrust(p),
			"reload CRI-O: systemctl reload crio",
			"not measured by this project, beyond Podman, which reads the same file: let `pullgate doctor crictl` "+
				"tell whether it holds"),
	}
}

// lintContainersImage reads registries.conf and its drop-ins, for Podman, Buildah
// and Skopeo.
func lintContainersImage(d *Doctor) []string {
	files := []string{d.file("/etc/containers/registries.conf")}
	if more, err := filepath.Glob(d.file("/etc/containers/registries.conf.d/*.conf")); err == nil {
		files = append(files, more...)
	}

	var advice []string
	anyHolds := false
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		more, holds := lintRegistriesConf(d, name, text)
		advice = append(advice, more...)
		anyHolds = anyHolds || holds
	}

	if !anyHolds {
		advice = append(advice,
			"registries.conf does not send "+d.image.Host+" to the gate: pulls go straight to the registry")
	}
	return advice
}

// lintRegistriesConf reads one file. It reports whether the file sends the canary
// to the gate.
func lintRegistriesConf(d *Doctor, name string, text []byte) (advice []string, holds bool) {
	var conf struct {
		Registry []struct {
			Prefix   string           `toml:"prefix"`
			Location string           `toml:"location"`
			Mirror   []map[string]any `toml:"mirror"`
		} `toml:"registry"`
	}
	if err := toml.Unmarshal(text, &conf); err != nil {
		return []string{name + " is not valid TOML"}, false
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
			advice = append(advice, name+" gives "+prefix+" a mirror: what a mirror refuses is pulled from the "+
				"registry; use location instead")
		}
		holds = holds || strings.Contains(d.Gate, strings.SplitN(r.Location, "/", 2)[0])
	}
	return advice, holds
}
