package verify

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
)

// resolve turns a reference into the bytes it stands for now: by digest from
// memory or upstream, by tag with one coalesced HEAD when the manifest is in
// memory already, else with one GET.
func (q *question) resolve(ctx context.Context, reference string) (*remembered, error) {
	if strings.Contains(reference, ":") {
		return q.load(ctx, digest.Digest(reference))
	}
	key := "tag|" + q.repo.String() + ":" + reference
	was, seen := q.Cache.tags.Get(key)
	if seen {
		if m, ok := q.Cache.manifests.Get(imageKey(q.repo, was.digest)); ok && q.Now().Sub(was.at) < q.TagTTL {
			return m, nil
		}
	}
	return fly(ctx, q, key, func(ctx context.Context) (*remembered, error) {
		registry, err := q.registry(q.repo)
		if err != nil {
			return nil, err
		}
		if seen {
			d, ok, err := registry.Resolve(ctx, q.repo, reference)
			if err != nil {
				return nil, err
			}
			if m, known := q.Cache.manifests.Get(imageKey(q.repo, d)); ok && known {
				q.Cache.tags.Set(key, tagged{digest: d, at: q.Now()}, 1)
				return m, nil
			}
		}
		m, err := q.fetch(ctx, registry, q.repo, reference)
		if err == nil {
			q.Cache.tags.Set(key, tagged{digest: m.Digest, at: q.Now()}, 1)
		}
		return m, err
	})
}

// load returns the manifest d of repo: from memory, from beside the facts, or
// from upstream; hashed in any case.
func (q *question) load(ctx context.Context, d digest.Digest) (*remembered, error) {
	if err := CheckDigest(d); err != nil {
		return nil, err
	}
	key := imageKey(q.repo, d)
	if m, ok := q.Cache.manifests.Get(key); ok {
		return m, nil
	}
	return fly(ctx, q, "manifest|"+key, func(ctx context.Context) (*remembered, error) {
		registry, err := q.registry(q.repo)
		if err != nil {
			return nil, err
		}
		return q.fetch(ctx, registry, q.repo, d.String())
	})
}

// loadParent is load for bytes that admit parts: kept bytes save the upstream.
func (q *question) loadParent(ctx context.Context, d digest.Digest) (*remembered, error) {
	if m, ok := q.Cache.manifests.Get(imageKey(q.repo, d)); ok {
		return m, nil
	}
	kept, ok, err := q.Store.manifest(d)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if !ok {
		return q.load(ctx, d)
	}
	s, err := ParseManifest(kept.Bytes, kept.MediaType, q.Limits.Descriptors)
	if err != nil {
		return nil, err
	}
	m := newRemembered(kept, s)
	m.learned.Store(true)
	q.Cache.putManifest(q.repo, m)
	return m, nil
}

func (g *Gate) fetch(ctx context.Context, registry Registry, repo policy.Repository, reference string) (*remembered, error) {
	got, err := registry.Manifest(ctx, repo, reference, g.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}
	s, err := ParseManifest(got.Bytes, got.MediaType, g.Limits.Descriptors)
	if err != nil {
		return nil, err
	}
	got.MediaType = s.MediaType
	m := newRemembered(got, s)
	g.Cache.putManifest(repo, m)
	return m, nil
}

func (g *Gate) registry(repo policy.Repository) (Registry, error) {
	r, ok := g.Registry(repo.Host)
	if !ok {
		return nil, fmt.Errorf("no upstream is configured for %s", repo.Host)
	}
	return r, nil
}
