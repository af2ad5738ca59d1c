package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
)

// Repository is a repository by its familiar full name: the upstream's host as
// images carry it (docker.io, ghcr.io, localhost:5000) and the path below it.
// The zero value names nothing.
type Repository struct {
	Host string // lower case, with a port where it is part of the name
	Path string // one or more components, e.g. library/nginx

	// Scope is whose eyes it is read with: empty for the gate's own credentials,
	// else a name that stands for those of the client. It is part of no name, and
	// no policy looks at it.
	Scope string
}

// String is the full name, e.g. docker.io/library/nginx; empty when r names
// nothing.
func (r Repository) String() string {
	if r.IsZero() {
		return ""
	}
	return r.Host + "/" + r.Path
}

// IsZero reports whether r names nothing.
func (r Repository) IsZero() bool { return r == Repository{} }

// At is the image with digest d in r.
func (r Repository) At(d digest.Digest) Image { return Image{r, Reference{Digest: d}} }

// Tagged is the image that tag stands for in r.
func (r Repository) Tagged(tag string) Image { return Image{r, Reference{Tag: tag}} }

// Reference is what a manifest is asked for by: a tag or a digest. One of the
// fields is set; the zero value refers to nothing.
type Reference struct {
	Tag    string
	Digest digest.Digest
}

// Distribution spec, "Pulling manifests": the grammar of a tag.
var tagGrammar = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// ErrTag is wrapped by ParseReference's error about a malformed tag; the one
// about a malformed digest wraps oci.ErrDigest.
var ErrTag = errors.New("invalid tag")

// ParseReference reads a tag or a digest. What holds a colon is a digest, since
// no tag does.
func ParseReference(s string) (Reference, error) {
	if strings.Contains(s, ":") {
		d := digest.Digest(s)
		if err := oci.CheckDigest(d); err != nil {
			return Reference{}, err
		}
		return Reference{Digest: d}, nil
	}

	if !tagGrammar.MatchString(s) {
		return Reference{}, fmt.Errorf("%w: not 1 to 128 letters, digits and _ . - with no . or - first", ErrTag)
	}
	return Reference{Tag: s}, nil
}

// String is the tag or the digest as a URL holds it.
func (r Reference) String() string {
	if r.Digest != "" {
		return r.Digest.String()
	}
	return r.Tag
}

// Image is a manifest by its repository and reference. The zero value names
// nothing.
type Image struct {
	Repository
	Reference
}

// String is repository:tag or repository@digest, and the repository alone when
// nothing in it is referred to.
func (i Image) String() string {
	switch {
	case i.Digest != "":
		return i.Repository.String() + "@" + i.Digest.String()
	case i.Tag != "":
		return i.Repository.String() + ":" + i.Tag
	}
	return i.Repository.String()
}

// IsZero reports whether i names nothing.
func (i Image) IsZero() bool { return i == Image{} }

// ValidPath reports whether path is a repository path by the distribution
// spec's grammar ("Pulling manifests") and at most 255 bytes long:
//
//	[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
//
// It is on the way of every request, hence not a regular expression.
func ValidPath(path string) bool {
	if len(path) == 0 || len(path) > 255 {
		return false
	}
	separator := "/" // the run of other characters before this one; a path begins like a component
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			if !validSeparator(separator) {
				return false
			}
			separator = ""
			continue
		}
		start := i - len(separator)
		if i == 0 {
			return false
		}
		separator = path[start : i+1]
	}
	return separator == ""
}

func validSeparator(s string) bool {
	switch s {
	case "", ".", "_", "__", "/":
		return true
	}
	return strings.Trim(s, "-") == ""
}

// ParseRepository reads a full name; the host is required. docker.io names get
// their "library/" and index.docker.io and registry-1.docker.io become docker.io.
func ParseRepository(s string) (Repository, error) {
	host, path, ok := strings.Cut(s, "/")
	if !ok || !(strings.ContainsAny(host, ".:") || host == "localhost") {
		return Repository{}, fmt.Errorf(
			"repository %q does not start with a registry host: write host/path, e.g. docker.io/library/nginx",
			s,
		)
	}
	r := Repository{Host: FamiliarHost(host), Path: path}
	if r.Host == "docker.io" && !strings.Contains(path, "/") {
		r.Path = "library/" + path
	}
	if !ValidPath(r.Path) {
		return Repository{}, fmt.Errorf("repository %q: %w", s, errPath)
	}
	return r, nil
}

var errPath = errors.New(
	"the path may hold lower-case letters, digits and single separators . _ - between them, in components parted " +
		"by /, 255 bytes at most",
)
