package upstream

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Registry is one registry as the gate asks it: an Upstream, or several that are
// mirrors of one another. It is safe for concurrent use.
type Registry interface {
	Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error)
	Blob(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) ([]byte, error)
	Referrers(ctx context.Context, repo policy.Repository, d digest.Digest, limit int64) (oci.Referrers, error)
	Resolve(ctx context.Context, repo policy.Repository, tag string) (d digest.Digest, ok bool, err error)

	ReferrersFrom(
		ctx context.Context,
		repo policy.Repository,
		d digest.Digest,
		query string,
		limit int64,
	) (list oci.Referrers, next string, err error)
	Tags(
		ctx context.Context,
		repo policy.Repository,
		query string,
		limit int64,
	) (tags []string, next string, err error)
	OpenBlob(
		ctx context.Context,
		repo policy.Repository,
		d digest.Digest,
		method, byteRange string,
	) (*BlobResponse, error)

	// CountsManifests reports whether the registry limits how many manifests are
	// fetched, but not how often it is asked what a tag stands for.
	CountsManifests() bool
	// Each are the registries behind it, in the order in which they are asked.
	Each() []Registry

	ImpliedPort() string
	Close()
}

// Registries are the registries that are configured, by familiar host, and those
// that wildcards stand for. It must not be changed once it is in use.
type Registries struct {
	exact map[string]Registry
	wild  []*Wildcard // those with the fewest * first
}

// Add configures a registry under its familiar host.
func (r *Registries) Add(host string, registry Registry) {
	if r.exact == nil {
		r.exact = map[string]Registry{}
	}
	r.exact[host] = registry
}

// AddWildcard configures the registries that w stands for. Where several wildcards
// stand for a host, the one with the fewest * counts, then the first one.
func (r *Registries) AddWildcard(w *Wildcard) {
	r.wild = append(r.wild, w)
	slices.SortStableFunc(r.wild, func(a, b *Wildcard) int { return a.pattern.Wildcards() - b.pattern.Wildcards() })
}

// Take takes over what other has for a host, or for a pattern, and reports whether
// there is something.
func (r *Registries) Take(host string, other *Registries) bool {
	if found, ok := other.exact[host]; ok {
		r.Add(host, found)
		return true
	}
	for _, w := range other.wild {
		if w.pattern.String() == host {
			r.AddWildcard(w)
			return true
		}
	}
	return false
}

// Len is how many entries are configured.
func (r *Registries) Len() int { return len(r.exact) + len(r.wild) }

// Find returns the registry of a familiar host, which it makes at its first use
// where a wildcard stands for it.
func (r *Registries) Find(host string) (Registry, bool) {
	if found, ok := r.exact[host]; ok {
		return found, true
	}
	if w := r.wildcard(host); w != nil {
		return w.registry(host), true
	}
	return nil, false
}

// PassingThrough is the registry of a host that is shown each client's own
// credentials. Neither mirrors nor wildcards are: such credentials are for one host.
func (r *Registries) PassingThrough(host string) (*Upstream, bool) {
	u, ok := r.exact[host].(*Upstream)
	if !ok || !u.PassesThrough() {
		return nil, false
	}
	return u, true
}

// AnyPassesThrough reports whether a registry is shown its clients' credentials.
func (r *Registries) AnyPassesThrough() bool {
	for host := range r.exact {
		if _, ok := r.PassingThrough(host); ok {
			return true
		}
	}
	return false
}

// ImpliedPort says which port the registry host means when none is written, and
// whether it is configured. It makes nothing.
func (r *Registries) ImpliedPort(host string) (port string, ok bool) {
	if port, ok := r.exactPort(host); ok {
		return port, true
	}
	if _, taken := policy.ConfiguredHost(host, r.exactPort); taken {
		return "", false // by another spelling, which names the same registry
	}
	if w := r.wildcard(host); w != nil {
		return w.port, true
	}
	return "", false
}

func (r *Registries) exactPort(host string) (port string, ok bool) {
	found, ok := r.exact[host]
	if !ok {
		return "", false
	}
	return found.ImpliedPort(), true
}

func (r *Registries) wildcard(host string) *Wildcard {
	for _, w := range r.wild {
		if w.pattern.Match(host) {
			return w
		}
	}
	return nil
}

// Close closes all that none of the others holds.
func (r *Registries) Close(others ...*Registries) {
	kept := func(registry Registry) bool {
		return slices.ContainsFunc(others, func(o *Registries) bool {
			for _, other := range o.exact {
				if other == registry {
					return true
				}
			}
			return false
		})
	}
	for _, registry := range r.exact {
		if !kept(registry) {
			registry.Close()
		}
	}
	for _, w := range r.wild {
		if !slices.ContainsFunc(others, func(o *Registries) bool { return slices.Contains(o.wild, w) }) {
			w.Close()
		}
	}
}

// CountsManifests implements Registry.
func (u *Upstream) CountsManifests() bool { return u.counted.Load() }

// Each implements Registry.
func (u *Upstream) Each() []Registry { return []Registry{u} }
