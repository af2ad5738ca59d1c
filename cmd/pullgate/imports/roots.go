package imports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// trustRoot is one that the policies name.
type trustRoot struct {
	name, file, note string
	of               string // what the source makes it of
}

// makeRoot says how a trust root is made that a source spread over its fields.
const makeRoot = "cosign trusted-root create, with --fulcio, --rekor, --ctfe and --tsa for each the source names; " +
	"pullgate refuses the policies until it is there"

// trust asks for a trust root that has to be made, and returns its name; the
// first time it is listed. of is what the source makes it of: two that differ
// never share a root, in which one CA could make the identities that are asked
// of the other. what says it in words.
func (v value) trust(name, of, what string) string {
	name = strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
	if name == "" || name == policy.PublicGood || name == policy.GitHubRoot {
		name = "imported-" + name
	}

	unique := name
	for n := 2; ; n++ {
		i := slices.IndexFunc(v.r.roots, func(t trustRoot) bool { return t.name == unique })
		if i < 0 {
			return v.addRoot(unique, of, what)
		}
		if v.r.roots[i].of == of {
			return unique
		}
		unique = fmt.Sprintf("%s-%d", name, n)
	}
}

func (v value) addRoot(name, of, what string) string {
	root := trustRoot{
		name: name,
		file: name + ".trusted_root.json",
		note: "make this file of " + what + ": " + makeRoot,
		of:   of,
	}
	v.r.roots = append(v.r.roots, root)
	v.lose(
		"the trust root %q has to be made, as %s, of %s (cosign trusted-root create): pullgate refuses the policies "+
			"until it is there",
		name,
		root.file,
		what,
	)
	return name
}
