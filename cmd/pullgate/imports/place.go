package imports

import (
	"strings"

	"github.com/pullgate/pullgate/policy"
)

// place is what a source pattern matches: repositories, and one digest of them
// or every one.
type place struct {
	value
	glob     policy.Glob
	digest   string // "": any
	untagged bool   // no tag stood in the pattern: pulls by tag and by digest alike
}

// covers reports that p surely matches all that q matches.
func (p place) covers(q place) bool {
	return (p.digest == "" || p.digest == q.digest) && p.glob.Covers(q.glob)
}

// meets reports whether some image may match both. It may say so wrongly,
// never the opposite.
func (p place) meets(q place) bool {
	if p.digest != "" && q.digest != "" && p.digest != q.digest {
		return false
	}
	return overlap(p.glob.String(), q.glob.String())
}

// globs translates a pattern over whole image names (host/path:tag or @digest),
// in which ** is any run of characters and * one without "/". A pattern that
// says which tag is refused, since policies never see tags.
func (v value) globs(pattern string) []place {
	head, last := "", pattern
	if i := strings.LastIndex(pattern, "/"); i >= 0 {
		head, last = pattern[:i+1], pattern[i+1:]
	}
	name, digest, hasDigest := strings.Cut(last, "@")
	name, tag, hasTag := strings.Cut(name, ":")

	var p place
	var ok bool
	if hasDigest {
		p, ok = v.ofDigest(digest)
	} else {
		p, ok = v.ofEveryDigest(head, last)
	}
	if !ok {
		return nil
	}
	if hasTag && hasDigest && tag != "" {
		v.refuse("%q has a tag and a digest: remove the tag", v.Node.Value)
		return nil
	}

	var all []place
	for _, text := range dialect(head + name) {
		g, err := policy.ParseGlob(text)
		if err != nil {
			v.refuse("%v", err)
			return nil
		}
		if !v.oneHub(text) {
			return nil
		}
		q := p
		q.value, q.glob = v, g
		all = append(all, q)
	}
	return all
}

// ofDigest reads what stands behind the @ of a pattern.
func (v value) ofDigest(digest string) (place, bool) {
	p := place{untagged: true}
	switch {
	case strings.Trim(digest, "*") == "" || digest == "sha256:*" || digest == "sha256:**":
	case strings.Contains(digest, "*"):
		v.refuse("%q: a part of a digest cannot be asked for: write the whole digest", v.Node.Value)
		return place{}, false
	case !isDigest(digest):
		v.refuse("%q: %q is no digest: write sha256: and 64 hex digits", v.Node.Value, digest)
		return place{}, false
	default:
		p.digest = digest
	}
	return p, true
}

// ofEveryDigest reads a pattern without a digest, of which last is what stands
// behind the last slash.
func (v value) ofEveryDigest(head, last string) (place, bool) {
	var p place
	shown := v.Node.Value
	name, tag, hasTag := strings.Cut(last, ":")

	switch {
	case hasTag && strings.Trim(tag, "*") != "":
		v.refuse(
			"%q says which tag: pullgate's policies never see tags, runtimes ask by digest as well; write %s%s@* "+
				"if the policy holds for every tag",
			shown,
			head,
			name,
		)
		return place{}, false
	case hasTag && name == "":
		v.refuse("%q has no repository", shown)
		return place{}, false
	case hasTag:
		v.lose("%q matches pulls by tag; here it holds for pulls by digest as well", shown)
	case !strings.HasSuffix(name, "*"):
		v.refuse(
			"%q matches an image only without tag and digest, which is hardly meant: write %s@* there for every "+
				"tag, and import again",
			shown,
			shown,
		)
		return place{}, false
	default:
		p.untagged = true
	}
	return p, true
}

// dialect writes a pattern over repositories in pullgate's dialect, in which
// ** as a whole segment also matches no segment, and a host is one segment.
func dialect(pattern string) []string {
	if strings.Trim(pattern, "*") == "" && strings.Contains(pattern, "**") {
		return []string{"**"}
	}
	for strings.Contains(pattern, "***") {
		pattern = strings.ReplaceAll(pattern, "***", "**")
	}

	segments := strings.Split(pattern, "/")
	for i := 1; i < len(segments)-1; i++ {
		if segments[i] == "**" {
			segments[i] = "*/**"
		}
	}

	host, rest := segments[0], strings.Join(segments[1:], "/")
	before, after, deep := strings.Cut(host, "**")
	if !deep || host == "**" || len(segments) == 1 || strings.Contains(after, "**") {
		return []string{strings.Join(segments, "/")}
	}
	return []string{before + "*" + after + "/" + rest, before + "*/**/*" + after + "/" + rest}
}

// oneHub refuses a pattern whose wildcard host matches one of Docker Hub's names
// and not the other: the sources have index.docker.io, policies docker.io.
func (v value) oneHub(pattern string) bool {
	if onHost(pattern, "docker.io") == onHost(pattern, "index.docker.io") {
		return true
	}
	host, _, _ := strings.Cut(pattern, "/")
	v.refuse(
		"%s matches one name of Docker Hub and not the other, and for pullgate both are docker.io: write "+
			"index.docker.io, or a domain that is not Docker Hub's",
		host,
	)
	return false
}

// onHost reports whether a pattern with a wildcard in its host reaches that host.
func onHost(pattern, host string) bool {
	wildcard, _, _ := strings.Cut(pattern, "/")
	if !strings.Contains(wildcard, "*") {
		return false
	}
	g, err := policy.ParseGlob(wildcard + "/**")
	return err == nil && g.Match(host+"/library/image")
}

// crossing turns a pattern whose * crosses "/" into the dialect of globs.
func crossing(pattern string) string {
	for strings.Contains(pattern, "**") {
		pattern = strings.ReplaceAll(pattern, "**", "*")
	}
	return strings.ReplaceAll(pattern, "*", "**")
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}
