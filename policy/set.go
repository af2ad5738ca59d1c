package policy

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Set is an ordered list of policies, of which the first that matches decides.
// It is immutable and safe for concurrent use. The zero value and a nil *Set
// deny everything.
type Set struct {
	policies []*Policy
	fallback *Policy // nil: deny
	files    []string
	roots    []TrustRoot

	byPrefix map[string][]int // positions of policies, by host and first path segment where all their globs name these
	anywhere []int            // positions of the others
}

// index sorts the policies by where they can match, so that a request looks
// at few of many.
func (s *Set) index() *Set {
	s.byPrefix = map[string][]int{}
	for i, p := range s.policies {
		prefixes := map[string]bool{}
		for _, g := range p.Images {
			prefixes[prefix(g.literal)] = true
		}

		if len(prefixes) == 0 || prefixes[""] {
			s.anywhere = append(s.anywhere, i)
			continue
		}
		for k := range prefixes {
			s.byPrefix[k] = append(s.byPrefix[k], i)
		}
	}
	return s
}

// prefix is name up to its second slash, empty when it has none.
func prefix(name string) string {
	i := strings.IndexByte(name, '/')
	j := strings.IndexByte(name[i+1:], '/')
	if i < 0 || j < 0 {
		return ""
	}
	return name[:i+1+j]
}

// candidates are the policies that may match name, in order.
func (s *Set) candidates(name string) iter.Seq[*Policy] {
	return func(yield func(*Policy) bool) {
		near, far := s.byPrefix[prefix(name)], s.anywhere
		for len(near)+len(far) > 0 {
			next := &near
			if len(near) == 0 || len(far) > 0 && far[0] < near[0] {
				next = &far
			}
			if !yield(s.policies[(*next)[0]]) {
				return
			}
			*next = (*next)[1:]
		}
	}
}

// For returns the policy that decides about the image: the first whose images,
// digests and clients match, else one named "defaultAction" that stands for the
// configuration's defaultAction. It never returns nil.
func (s *Set) For(image Repository, digest string, client Client) *Policy {
	return s.ForEither(image, digest, digest, client)
}

// ForEither is For for bytes that have two names: the first policy that matches
// either digest decides, so that sha512 is no way around what is said of a
// sha256.
func (s *Set) ForEither(image Repository, digest, alias string, client Client) *Policy {
	if s == nil {
		return defaultPolicy(denyByDefault)
	}

	name := image.String()
	for p := range s.candidates(name) {
		if p.matchesRepository(name) && (p.matchesDigest(digest) || p.matchesDigest(alias)) && p.matchesClient(client) {
			return p
		}
	}
	return s.defaultAction()
}

// Policies are the policies in order, without the default action. The slice is
// the caller's, the policies are not to be changed.
func (s *Set) Policies() []*Policy {
	if s == nil {
		return nil
	}
	return slices.Clone(s.policies)
}

// TrustRoots are the trust roots that some policy uses, in the order of their
// names. One of which only the Name is set is built in.
func (s *Set) TrustRoots() []TrustRoot {
	used := map[string]bool{}
	for _, p := range s.policies {
		for i := range p.Authorities {
			for _, name := range p.Authorities[i].TrustRoots {
				used[name] = true
			}
		}
	}

	var list []TrustRoot
	for _, name := range slices.Sorted(maps.Keys(used)) {
		r := TrustRoot{Name: name}
		for _, defined := range s.roots {
			if defined.Name == name {
				r = defined
			}
		}
		list = append(list, r)
	}
	return list
}

// KeyReferences are the keys in key services that some policy uses, sorted.
func (s *Set) KeyReferences() []string {
	used := map[string]bool{}
	for _, p := range s.policies {
		for i := range p.Authorities {
			for _, reference := range p.Authorities[i].KMS {
				used[reference] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// Files are the files that were read, or looked for, while loading: policies
// and keys, to be watched for changes. A refused Set has them too.
func (s *Set) Files() []string {
	if s == nil {
		return nil
	}
	return slices.Clone(s.files)
}

// CouldAllow reports whether some policy could admit any image of repo to client
// today; policies for single digests count. Warn mode of the whole gate is not
// considered.
func (s *Set) CouldAllow(repo Repository, client Client) bool {
	return s.couldAllow(repo, client, time.Now())
}

func (s *Set) couldAllow(repo Repository, client Client, now time.Time) bool {
	return s.admitsSome(repo, client, now, func(*Policy) bool { return true })
}

// Opens is CouldAllow by the policies whose images match repo, and the default
// action. A policy that names digests alone admits these images wherever they
// are, and opens no repository: tag lists, referrers and signature artifacts are
// served only where Opens.
func (s *Set) Opens(repo Repository, client Client) bool {
	return s.opens(repo, client, time.Now())
}

func (s *Set) opens(repo Repository, client Client, now time.Time) bool {
	return s.admitsSome(repo, client, now, func(p *Policy) bool { return len(p.Images) > 0 || len(p.Digests) == 0 })
}

// admitsSome reports whether a policy that counts could admit some image of repo.
func (s *Set) admitsSome(repo Repository, client Client, now time.Time, counts func(*Policy) bool) bool {
	if s == nil {
		return false
	}

	name := repo.String()
	for p := range s.candidates(name) {
		if !p.matchesRepository(name) || !p.matchesClient(client) || !counts(p) {
			continue
		}
		if !p.deniesAlways(now) {
			return true
		}
		if len(p.Digests) == 0 {
			return false // nothing after it is ever asked
		}
	}

	return !s.defaultAction().deniesAlways(now)
}

// DeniedDigests are the digests that policies for repo and client deny in writing. Another
// policy before them may say otherwise of one.
func (s *Set) DeniedDigests(repo Repository, client Client) []string {
	if s == nil {
		return nil
	}
	var list []string
	name := repo.String()
	for p := range s.candidates(name) {
		if p.DeniesDigests() && p.matchesRepository(name) && p.matchesClient(client) {
			list = append(list, p.Digests...)
		}
	}
	return list
}

func (s *Set) defaultAction() *Policy {
	if s.fallback == nil {
		return defaultPolicy(denyByDefault)
	}
	return s.fallback
}

func (p *Policy) matchesRepository(name string) bool {
	if len(p.Images) == 0 {
		return true
	}
	for _, g := range p.Images {
		if g.Match(name) {
			return true
		}
	}
	return false
}

func (p *Policy) matchesDigest(digest string) bool {
	return len(p.Digests) == 0 || slices.Contains(p.Digests, digest)
}

func (p *Policy) deniesAlways(now time.Time) bool {
	switch p.Static {
	case Deny:
		return p.Mode != Warn // only the default action has both
	case Allow:
		return !p.Expires.IsZero() && !now.Before(p.Expires)
	}
	return false
}

// The values of defaultAction.
const (
	denyByDefault  = "deny"
	warnByDefault  = "warn"
	allowByDefault = "allow"
)

// defaultName names the policy of images that no policy matches; no policy of
// the list may be called so.
const defaultName = "defaultAction"

// defaultPolicy denies unless told to allow or warn. Under warn it is the one
// policy with both Static Deny and Mode Warn: the loader refuses that elsewhere.
func defaultPolicy(action string) *Policy {
	p := &Policy{Name: defaultName, Static: Deny}
	switch action {
	case allowByDefault:
		p.Static = Allow
	case warnByDefault:
		p.Mode = Warn
	}
	p.Hash = hashPolicy(p)
	return p
}
