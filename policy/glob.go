package policy

import (
	"errors"
	"fmt"
	"strings"
)

// maxGlob bounds a glob's length in bytes: the longest host and path together.
const maxGlob = 512

// Glob is a pattern over full repository names (host/path). `*` matches any
// run of characters within one path segment, `**` any run across segments;
// `**` as a whole segment in the middle also matches no segment at all. The
// zero value matches nothing.
type Glob struct {
	text    string
	literal string // what every match starts with
	tokens  []token
}

// token is a literal byte or one of the wildcards below. As the symbol that
// is read it stands for every string the wildcard can become, so that Match
// and Covers are one automaton.
type token uint16

const (
	star   token = 0x100 + iota // any run of characters without "/"
	deep                        // nothing, or any run that ends in "/"; always followed by inside
	inside                      // the part of deep that has begun
	dstar                       // any run of characters
)

// ParseGlob reads a glob and normalises its host as ParseRepository does. The
// error says what to write instead: a tag or digest (policies never see tags,
// because runtimes ask by digest as well), a missing host, a pattern that can
// match no repository.
func ParseGlob(s string) (Glob, error) {
	if len(s) > maxGlob {
		return Glob{}, fmt.Errorf("glob is %d bytes long: %d at most", len(s), maxGlob)
	}
	if err := checkGlobText(s); err != nil {
		return Glob{}, err
	}

	host, path, hasPath := strings.Cut(s, "/")
	host = strings.ToLower(host)
	if !strings.Contains(host, "*") {
		host = FamiliarHost(host)
	}

	if host == "docker.io" && hasPath && !strings.Contains(path, "/") && !strings.Contains(path, "**") {
		if strings.Contains(path, "*") {
			return Glob{}, fmt.Errorf(
				"glob %q matches nothing, Docker Hub names have two parts: write docker.io/library/%s, or "+
					"docker.io/** for all of it",
				s,
				path,
			)
		}
		path = "library/" + path
	}

	text := host
	if hasPath {
		text += "/" + path
	}
	return newGlob(text), nil
}

// newGlob compiles a glob whose text has been checked.
func newGlob(text string) Glob {
	g := Glob{text: text, tokens: compileGlob(text)}
	g.literal, _, _ = strings.Cut(text, "*")
	return g
}

// checkGlobText says what to write instead of a glob that ParseGlob cannot use.
func checkGlobText(s string) error {
	switch {
	case s == "":
		return errors.New("glob is empty")
	case s == "**":
		return nil
	case strings.Contains(s, "@"):
		return fmt.Errorf("glob %q has a digest: put it under digests", s)
	case strings.Contains(s, "***"):
		return fmt.Errorf("glob %q: write * (within a segment) or ** (across segments)", s)
	}

	host, path, hasPath := strings.Cut(s, "/")
	if strings.Contains(path, ":") {
		return fmt.Errorf("glob %q has a tag: policies match repositories, never tags", s)
	}
	if !strings.ContainsAny(host, ".:*") && host != "localhost" {
		hub := "docker.io/" + s
		if !hasPath {
			hub = "docker.io/library/" + s
		}
		return fmt.Errorf("glob %q does not start with a registry host: write %s for Docker Hub, or host/%s", s, hub, s)
	}
	if !hasPath {
		return missingPath(s)
	}

	if host != "**" && strings.Contains(host, "**") {
		return fmt.Errorf("glob %q: ** would reach beyond the host, write *", s)
	}
	if i := strings.IndexFunc(host, func(r rune) bool { return !hostRune(r) }); i >= 0 {
		return fmt.Errorf("glob %q: %q cannot be part of a host", s, host[i:])
	}
	return checkGlobPath(s, path)
}

// missingPath is about a glob that is a host alone, or a Docker Hub name with a
// tag, which looks like one.
func missingPath(s string) error {
	name, _, tagged := strings.Cut(s, ":")
	if tagged && !strings.ContainsAny(name, ".*") && name != "localhost" {
		return fmt.Errorf(
			"glob %q has a tag and no registry host, or no path: write docker.io/library/%s or %s/**",
			s,
			name,
			s,
		)
	}
	return fmt.Errorf("glob %q has no path: write %s/** for every repository of that host", s, s)
}

// checkGlobPath finds segments that no repository's path can have. s is the
// whole glob.
func checkGlobPath(s, path string) error {
	for segment := range strings.SplitSeq(path, "/") {
		if strings.Contains(segment, "*") {
			segment = strings.ReplaceAll(segment, "*", "")
			if strings.IndexFunc(segment, func(r rune) bool { return !pathRune(r) }) >= 0 {
				return fmt.Errorf("glob %q: %w", s, errPath)
			}
			continue
		}
		if !ValidPath(segment) {
			return fmt.Errorf("glob %q: %w", s, errPath)
		}
	}
	return nil
}

func hostRune(r rune) bool {
	return pathRune(r) || r >= 'A' && r <= 'Z' || strings.ContainsRune(":*[]", r)
}

func pathRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

func compileGlob(s string) []token {
	tokens := make([]token, 0, len(s))

	for i := 0; i < len(s); {
		atStart := i == 0 || s[i-1] == '/'
		switch {
		case atStart && strings.HasPrefix(s[i:], "**/"):
			tokens = append(tokens, deep, inside)
			i += 3
		case strings.HasPrefix(s[i:], "**"):
			tokens = append(tokens, dstar)
			i += 2
		case s[i] == '*':
			tokens = append(tokens, star)
			i++
		default:
			tokens = append(tokens, token(s[i]))
			i++
		}
	}
	return tokens
}

// String is the glob as normalised by ParseGlob.
func (g Glob) String() string { return g.text }

// Match reports whether repo, a full name, matches. Its time is linear in
// repo for a given glob, whatever either holds.
func (g Glob) Match(repo string) bool {
	if g.text == "" || !strings.HasPrefix(repo, g.literal) {
		return false
	}
	switch g.text[len(g.literal):] {
	case "":
		return repo == g.text
	case "**":
		return true
	case "*":
		return strings.IndexByte(repo[len(g.literal):], '/') < 0
	}
	return matchTokens(g.tokens, repo)
}

// Covers reports whether every repository that other matches is surely
// matched by g. It is conservative: false can also mean "hard to tell".
func (g Glob) Covers(other Glob) bool {
	if g.text == "" || other.text == "" || !strings.HasPrefix(other.literal, g.literal) {
		return false
	}
	run := newGlobRun(g.tokens)
	for _, t := range other.tokens {
		if t != inside {
			run.read(t)
		}
	}
	return run.accepted()
}

// globRun simulates the glob's automaton: all positions that can have been
// reached, each at most once, so no input makes it backtrack.
type globRun struct {
	tokens    []token
	now, next []int
	seen      []int // position -> last step that added it
	step      int
}

func newGlobRun(tokens []token) *globRun {
	r := &globRun{tokens: tokens, seen: make([]int, len(tokens)+1), step: 1}
	r.add(0)
	r.now, r.next = r.next, r.now
	return r
}

// add puts a position and those reachable from it without reading into next.
func (r *globRun) add(p int) {
	for r.seen[p] != r.step {
		r.seen[p] = r.step
		r.next = append(r.next, p)
		if p == len(r.tokens) {
			return
		}
		switch r.tokens[p] {
		case star, dstar:
			p++
		case deep:
			p += 2
		}
	}
}

// read goes from all positions on by one symbol.
func (r *globRun) read(symbol token) {
	r.step++
	r.next = r.next[:0]

	for _, p := range r.now {
		if p == len(r.tokens) {
			continue
		}
		switch t := r.tokens[p]; t {
		case star:
			if symbol == star || symbol < star && symbol != '/' {
				r.add(p)
			}
		case dstar:
			r.add(p)
		case deep:
			if symbol == deep {
				r.add(p) // nothing or "…/" before the same is the same
				continue
			}
			r.add(p + 1)
			if symbol == '/' {
				r.add(p + 2)
			}
		case inside:
			r.add(p)
			if symbol == '/' || symbol == deep { // deep stands after a "/" and ends in one, or is nothing
				r.add(p + 1)
			}
		default:
			if symbol == t {
				r.add(p + 1)
			}
		}
	}

	r.now, r.next = r.next, r.now
}

func (r *globRun) accepted() bool { return r.seen[len(r.tokens)] == r.step }

// matchTokens reports whether the whole of text matches a compiled glob.
func matchTokens(tokens []token, text string) bool {
	run := newGlobRun(tokens)
	for i := range len(text) {
		run.read(token(text[i]))
	}
	return run.accepted()
}
