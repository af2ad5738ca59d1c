package policy

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The trust roots that need not be configured. An entry of the same name
// replaces one.
const (
	// PublicGood is Sigstore's public instance.
	PublicGood = "public-good"
	// GitHubRoot is what signs the attestations of GitHub's private repositories.
	GitHubRoot = "github"
)

// TrustRoot says where a Sigstore trusted root comes from. Exactly one of JSON
// and TUF is set.
type TrustRoot struct {
	Name  string
	Where Position // of the entry; zero for a built-in one
	JSON  []byte   // a trusted_root.json, read while loading
	TUF   *TUF
}

// TUF is a repository of The Update Framework that has the trusted root as a target.
type TUF struct {
	Mirror    string        // URL of the repository; empty when Directory is set
	Directory string        // the repository's files on disk, for closed networks
	Root      []byte        // the root.json to begin with
	Target    string        // name of the trusted root, "trusted_root.json"
	Refresh   time.Duration // how often it is asked for changes
}

const (
	maxRootFile    = 4 << 20 // bytes
	defaultRefresh = 12 * time.Hour
	minRefresh     = time.Minute
	defaultTarget  = "trusted_root.json"
)

var (
	trustRootFields = []string{"name", "file", "tuf"}
	tufFields       = []string{"mirror", "directory", "root", "target", "refresh"}
)

// rootUse is where an authority names a trust root.
type rootUse struct {
	source source
	node   *yaml.Node
	name   string
	what   string
}

func (l *loader) trustRootList(s source, n *yaml.Node) {
	nodes, ok := s.list(n, "trustRoots")
	if !ok {
		return
	}
	for _, node := range nodes {
		l.trustRoot(s, node)
	}
}

func (l *loader) trustRoot(s source, n *yaml.Node) {
	fields, ok := s.mapping(n, "a trust root")
	if !ok {
		return
	}
	r := TrustRoot{Where: s.at(n)}
	what := "trust root"
	for _, f := range fields {
		if f.name == "name" {
			r.Name = s.name(f.value, "name")
			what = fmt.Sprintf("trust root %q", r.Name)
		}
	}
	s.known(fields, what, trustRootFields)
	kinds := 0
	for _, f := range fields {
		switch f.name {
		case "file":
			kinds++
			name, ok := s.text(f.value, what+": file")
			if !ok {
				continue
			}
			text, err := l.read(s.absolute(name), maxRootFile)
			if err != nil {
				s.problem(f.value, "%s: %v", what, err)
				continue
			}
			r.JSON = text
		case "tuf":
			kinds++
			r.TUF = l.tuf(s, f.value, what+": tuf")
		}
	}
	if r.Name == "" {
		s.problem(n, "%s has no name: add one, by which authorities name it", what)
	}
	if kinds != 1 {
		s.problem(n, "%s must have either file or tuf", what)
	}
	if i := slices.IndexFunc(
		l.roots,
		func(other TrustRoot) bool { return other.Name == r.Name },
	); i >= 0 &&
		r.Name != "" {
		s.problem(n, "%s is already defined at %s: names must differ", what, l.roots[i].Where)
		return
	}
	l.roots = append(l.roots, r)
}

func (l *loader) tuf(s source, n *yaml.Node, what string) *TUF {
	t := &TUF{Target: defaultTarget, Refresh: defaultRefresh}
	fields, ok := s.mapping(n, what)
	if !ok {
		return t
	}
	s.known(fields, what, tufFields)
	given := map[string]bool{}
	for _, f := range fields {
		label := what + ": " + f.name
		given[f.name] = true
		switch f.name {
		case "mirror":
			text, _ := s.text(f.value, label)
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
				u.RawQuery != "" ||
				u.Fragment != "" {
				// Not repeated: it may hold a password, and problems are logged.
				s.problem(f.value, "%s must be an https address without user, query or fragment", label)
			}
			t.Mirror = strings.TrimSuffix(text, "/")
		case "directory":
			if text, ok := s.text(f.value, label); ok && text != "" {
				t.Directory = s.absolute(text)
				// What changes with every update of a copied repository.
				l.files = append(l.files, filepath.Join(t.Directory, "timestamp.json"))
			}
		case "root":
			if text, ok := s.text(f.value, label); ok {
				root, err := l.read(s.absolute(text), maxRootFile)
				if err != nil {
					s.problem(f.value, "%s: %v", label, err)
				}
				t.Root = root
			}
		case "target":
			text, ok := s.text(f.value, label)
			if ok && (text == "" || strings.HasPrefix(text, "/") || strings.Contains(text, "..") || !printable(text)) {
				s.problem(f.value, "%s must be the name of a target, not %s", label, brief(f.value))
			}
			t.Target = text
		case "refresh":
			text, _ := s.text(f.value, label)
			d, err := time.ParseDuration(text)
			if err != nil || d < minRefresh {
				s.problem(
					f.value,
					"%s must be a duration of at least %s, such as 12h, not %s",
					label,
					minRefresh,
					brief(f.value),
				)
				d = defaultRefresh
			}
			t.Refresh = d
		}
	}
	if given["mirror"] == given["directory"] {
		s.problem(n, "%s must have either mirror or directory", what)
	}
	if !given["root"] {
		s.problem(
			n,
			"%s has no root: name the root.json that you were given with the mirror; without it nothing that the "+
				"mirror says can be trusted",
			what,
		)
	}
	return t
}

// checkRoots reports the trust roots that authorities name and nobody defines.
func (l *loader) checkRoots() {
	known := []string{PublicGood, GitHubRoot}
	for _, r := range l.roots {
		if !slices.Contains(known, r.Name) {
			known = append(known, r.Name)
		}
	}
	for _, u := range l.rootUses {
		if !slices.Contains(known, u.name) {
			u.source.problem(
				u.node,
				"%s: unknown trust root %q (known: %s): define it under trustRoots",
				u.what,
				u.name,
				strings.Join(known, ", "),
			)
		}
	}
}
