package imports

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
)

func everywhere(v value) place {
	all, err := policy.ParseGlob("**")
	if err != nil {
		v.refuse("%v", err)
	}
	return place{value: v, glob: all, untagged: true}
}

// scope translates a scope of policy.json's docker transport: a host, hosts
// below a domain, a namespace, a repository or a digest. What matches nothing
// there, and would match something here, is refused.
func (v value) scope(scope string) []place {
	name, digest, hasDigest := strings.Cut(scope, "@")
	host, path, hasPath := strings.Cut(name, "/")
	domain, below := strings.CutPrefix(host, "*.")
	switch {
	case strings.Contains(path, ":"):
		v.refuse(
			"scope %q is one tag: pullgate's policies never see tags, runtimes ask by digest as well; write the "+
				"repository",
			scope,
		)
		return nil
	case hasDigest && !isDigest(digest):
		v.refuse("scope %q: %q is no digest: write sha256: and 64 hex digits", scope, digest)
		return nil
	case strings.Contains(domain+path, "*") || below && (hasPath || strings.Contains(domain, ":")):
		v.refuse(
			"scope %q matches nothing: * stands for the beginning of a host alone, as in *.example.com, whatever "+
				"the port",
			scope,
		)
		return nil
	case policy.FamiliarHost(host) != host:
		v.refuse("scope %q matches nothing: write %s", scope, policy.FamiliarHost(host)+strings.TrimPrefix(scope, host))
		return nil
	}

	var globs []string
	hub := host == "docker.io" && hasPath && !strings.Contains(path, "/")
	switch {
	case hub && hasDigest:
		v.refuse("scope %q matches nothing: write docker.io/library/%s@%s", scope, path, digest)
		return nil
	case hasDigest:
		globs = []string{name}
	case below:
		globs = []string{host + "/**", host + ":*/**"} // whatever the port
	case !hasPath, hub:
		globs = []string{name + "/**"} // Docker Hub's repositories have two parts
	default:
		globs = []string{name, name + "/**"}
	}

	var all []place
	for _, text := range globs {
		g, err := policy.ParseGlob(text)
		if err != nil {
			v.refuse("scope %q: %v", scope, err)
			return nil
		}
		all = append(all, place{
			value:    v,
			glob:     g,
			digest:   digest,
			untagged: true,
		})
	}
	return all
}
