package imports

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pullgate/pullgate/policy"
)

// check loads what will be printed, as pullgate would. Keys and certificates in
// files, and trust roots, are not at hand: an identity stands in for them.
func check(policies []native) {
	list := sequence()
	for i, p := range policies {
		signers := make([]authority, len(p.authorities))
		for j, a := range p.authorities {
			a.root, a.roots, a.log, a.stamp = "", nil, false, false
			if a.pki != nil || inFiles(a.keys) {
				a.pki, a.keys = nil, nil
				a.identities = []identity{{issuer: "https://stand-in.example", subject: "stand-in"}}
			}
			signers[j] = a
		}

		p.authorities = signers
		n := p.node()
		atLine(n, i+1)
		list.Content = append(list.Content, n)
	}

	_, problems := policy.Load(policy.Input{ConfigFile: "the output", Inline: list})
	for _, problem := range problems {
		at := max(problem.Line, 1) - 1 // one that is about none of them is said of the first
		policies[at].places[0].refuse("pullgate would refuse what it becomes: %s", problem.Message)
	}
}

func inFiles(keys []string) bool {
	for _, key := range keys {
		if !strings.Contains(key, "-----BEGIN") && !strings.Contains(key, "://") {
			return true
		}
	}
	return false
}

// atLine makes the loader's problems say which policy they are about.
func atLine(n *yaml.Node, line int) {
	n.Line = line
	for _, child := range n.Content {
		atLine(child, line)
	}
}
