package policy

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
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
	value
	name string
}

func (l *loader) trustRootList(v value) {
	items, ok := v.list()
	if !ok {
		return
	}
	for _, item := range items {
		l.trustRoot(item.called("a trust root"))
	}
}

func (l *loader) trustRoot(v value) {
	fields, ok := v.mapping()
	if !ok {
		return
	}

	r := TrustRoot{Where: v.At()}
	what := "trust root"
	for _, f := range fields {
		if f.name == "name" {
			r.Name = f.called("name").displayName()
			what = fmt.Sprintf("trust root %q", r.Name)
		}
	}
	v, fields = v.called(what), below(what, fields)
	known(fields, trustRootFields)

	kinds := 0
	for _, f := range fields {
		switch f.name {
		case "file":
			kinds++
			r.JSON = l.rootFile(f.value, what)
		case "tuf":
			kinds++
			r.TUF = l.tuf(f.value)
		}
	}
	if r.Name == "" {
		v.problem("%s has no name: add one, by which authorities name it", what)
	}
	if kinds != 1 {
		v.problem("%s must have either file or tuf", what)
	}

	l.addRoot(v, r)
}

// addRoot keeps r, unless its name is taken.
func (l *loader) addRoot(v value, r TrustRoot) {
	if r.Name != "" {
		for _, other := range l.roots {
			if other.Name == r.Name {
				v.problem("%s is already defined at %s: names must differ", v.Path, other.Where)
				return
			}
		}
	}
	l.roots = append(l.roots, r)
}

// rootFile reads the file that v names, nil when it cannot; what is the name of
// its problems.
func (l *loader) rootFile(v value, what string) []byte {
	name, ok := v.text()
	if !ok {
		return nil
	}

	text, err := l.read(v.absolute(name), maxRootFile)
	if err != nil {
		v.problem("%s: %v", what, err)
		return nil
	}
	return text
}

func (l *loader) tuf(v value) *TUF {
	t := &TUF{Target: defaultTarget, Refresh: defaultRefresh}
	fields, ok := v.mapping()
	if !ok {
		return t
	}
	known(fields, tufFields)

	given := map[string]bool{}
	for _, f := range fields {
		given[f.name] = true
		switch f.name {
		case "mirror":
			t.Mirror = f.mirror()
		case "directory":
			if text, ok := f.text(); ok && text != "" {
				t.Directory = f.absolute(text)
				// What changes with every update of a copied repository.
				l.files = append(l.files, filepath.Join(t.Directory, "timestamp.json"))
			}
		case "root":
			t.Root = l.rootFile(f.value, f.Path)
		case "target":
			t.Target = f.target()
		case "refresh":
			t.Refresh = f.refresh()
		}
	}

	if given["mirror"] == given["directory"] {
		v.problem("%s must have either mirror or directory", v.Path)
	}
	if !given["root"] {
		v.problem(
			"%s has no root: name the root.json that you were given with the mirror; without it nothing that the "+
				"mirror says can be trusted",
			v.Path,
		)
	}
	return t
}

// mirror reads the address of a repository.
func (v value) mirror() string {
	text, _ := v.text()
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Not repeated: it may hold a password, and problems are logged.
		v.problem("%s must be an https address without user, query or fragment", v.Path)
	}
	return strings.TrimSuffix(text, "/")
}

// target reads the name of a target, which is a path inside the repository.
func (v value) target() string {
	text, ok := v.text()
	if ok && (text == "" || strings.HasPrefix(text, "/") || strings.Contains(text, "..") || !printable(text)) {
		v.problem("%s must be the name of a target, not %s", v.Path, v.brief())
	}
	return text
}

func (v value) refresh() time.Duration {
	text, _ := v.text()
	d, err := time.ParseDuration(text)
	if err != nil || d < minRefresh {
		v.problem("%s must be a duration of at least %s, such as 12h, not %s", v.Path, minRefresh, v.brief())
		return defaultRefresh
	}
	return d
}

// checkRoots reports the trust roots that authorities name and no file defines.
func (l *loader) checkRoots() {
	names := []string{PublicGood, GitHubRoot}
	for _, r := range l.roots {
		if !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}

	for _, use := range l.rootUses {
		if !slices.Contains(names, use.name) {
			use.problem(
				"%s: unknown trust root %q (known: %s): define it under trustRoots",
				use.Path,
				use.name,
				strings.Join(names, ", "),
			)
		}
	}
}
