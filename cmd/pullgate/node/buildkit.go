package node

import (
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

const (
	buildkitDaemon = "/etc/buildkit/buildkitd.toml"
	buildkitPolicy = "/etc/buildkit/pullgate-policy.json" // the source policy
)

func buildkitSetup(p Plan) Setup {
	var notes []string
	if p.Login != "" {
		notes = append(notes,
			"BuildKit asks its client for the password: docker login "+p.Gate.Host+" where buildctl runs")
	}
	named := p.Gate.Host + "/" + p.Upstreams[0] + "/team/app:v1"
	return Setup{
		Files: []File{
			{Path: buildkitDaemon, Text: buildkitdTOML(p)},
			{Path: buildkitPolicy, Text: sourcePolicy(p)},
		},
		Notes: append(notes,
			"mirrors do NOT hold: what a mirror refuses, BuildKit pulls from the registry",
			"name images through the gate in Dockerfiles: FROM "+named,
			"or leave names as they are and build with the source policy, which puts the gate's before them: "+
				"buildctl build --source-policy-file "+buildkitPolicy,
			"a build that does neither is held by no file: close the builder's way to registries",
		),
	}
}

func buildkitdTOML(p Plan) string {
	var b strings.Builder
	b.WriteString("# Names that carry the gate's host are pulled from it. A mirrors entry would not hold:\n" +
		"# what a mirror refuses, BuildKit pulls from the registry.\n")
	fmt.Fprintf(&b, "[registry.%q]\n", p.Gate.Host)
	if p.insecure() {
		b.WriteString("  http = true\n")
	}
	if p.CA != "" {
		fmt.Fprintf(&b, "  ca = [%q]\n", p.CA)
	}
	if p.Cert != "" {
		fmt.Fprintf(&b, "  [[registry.%q.keypair]]\n    key = %q\n    cert = %q\n", p.Gate.Host, p.Key, p.Cert)
	}
	return b.String()
}

// sourcePolicy puts the gate's host before the names of images.
func sourcePolicy(p Plan) string {
	const rule = "  {\"action\": \"CONVERT\",\n" +
		"   \"selector\": {\"identifier\": \"docker-image://%s/*\"},\n" +
		"   \"updates\": {\"identifier\": \"docker-image://%s/%s/${1}\"}}"

	var rules []string
	for _, host := range p.Upstreams {
		rules = append(rules, fmt.Sprintf(rule, host, p.Gate.Host, host))
	}
	return "{\"rules\": [\n" + strings.Join(rules, ",\n") + "\n]}\n"
}

// lintBuildkit looks for mirrors: one that refuses is taken for one that failed.
func lintBuildkit(d *Doctor) []string {
	name := d.file(buildkitDaemon)
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
			advice = append(advice, name+" gives "+host+" mirrors: mirrors do not hold, what one refuses is pulled "+
				"from the registry; name images through the gate and close the builder's way to registries")
		}
	}
	return advice
}
