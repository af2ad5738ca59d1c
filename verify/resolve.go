package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// notFoundTTL is how long an upstream's 404 is believed: a client that asks
// again and again does not spend the upstream's quota.
const notFoundTTL = 3 * time.Second

// resolve turns a reference into the bytes it stands for now: by digest from
// memory, state or upstream; by tag with one coalesced HEAD when the manifest
// is known already, else with one GET.
func (q *question) resolve(ctx context.Context, ref policy.Reference) (*remembered, error) {
	if ref.Digest != "" {
		return q.load(ctx, ref.Digest)
	}
	key := "tag|" + q.repo.Tagged(ref.Tag).String()
	was, seen := q.config.Cache.tags.Get(key)
	age := q.config.Now().Sub(was.at)
	if seen && age < q.config.TagTTL {
		if m, ok := q.config.Cache.manifests.Get(imageKey(q.repo, was.digest)); ok {
			return m, nil
		}
	}
	m, err := q.fetchOnce(ctx, key, seen, func(ctx context.Context, registry Registry) (*remembered, error) {
		if seen {
			// A third of the time: what follows an upstream that stalls needs some.
			ctx, cancel := context.WithTimeout(ctx, q.config.Limits.VerifyTimeout/3)
			defer cancel()
			d, ok, err := registry.Resolve(ctx, q.repo, ref.Tag)
			if err != nil {
				return nil, err
			}
			if m, err := q.known(d); ok && m != nil && err == nil {
				return m, nil
			}
			if err := q.mayAskUpstream(); err != nil {
				return nil, err
			}
		}
		return q.fetch(ctx, registry, q.repo.Tagged(ref.Tag))
	})
	if err == nil {
		q.config.Cache.tags.Set(key, tagged{digest: m.Digest, at: q.config.Now()}, 1)
		return m, nil
	}
	if seen && oci.IsUnavailable(err) && age < q.config.StaleIfError {
		// The upstream is away: what the tag stood for is judged as of now.
		if m, kerr := q.known(was.digest); kerr == nil && m != nil {
			return m, nil
		}
	}
	return nil, err
}

// load returns the manifest d of repo: from memory, from beside the facts, or
// from upstream; hashed in any case.
func (q *question) load(ctx context.Context, d digest.Digest) (*remembered, error) {
	if err := oci.CheckDigest(d); err != nil {
		return nil, err
	}
	if m, err := q.known(d); m != nil || err != nil {
		return m, err
	}
	return q.fetchOnce(
		ctx,
		"manifest|"+imageKey(q.repo, d),
		false,
		func(ctx context.Context, registry Registry) (*remembered, error) {
			return q.fetch(ctx, registry, q.repo.At(d))
		},
	)
}

// known is the manifest d of this repository without asking the upstream, or
// nil.
func (q *question) known(d digest.Digest) (*remembered, error) {
	if m, ok := q.config.Cache.manifests.Get(imageKey(q.repo, d)); ok {
		return m, nil
	}
	kept, ok, err := q.config.Store.manifest(q.repo, d)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if !ok {
		return nil, nil
	}
	s, err := oci.ParseManifest(kept.Bytes, kept.MediaType, q.config.Limits.Descriptors)
	if err != nil {
		return nil, err
	}
	kept.MediaType = s.MediaType // not the state's word
	m := newRemembered(kept, s)
	q.config.Cache.putManifest(q.repo, m)
	return m, nil
}

// fetchOnce asks the upstream once for everybody who asks for key meanwhile.
// A 404 is believed for a moment, in a memory of its own; nothing else that
// went wrong is remembered.
// What is free spends nobody's quota: a HEAD for a tag that is known.
func (q *question) fetchOnce(
	ctx context.Context,
	key string,
	free bool,
	fetch func(context.Context, Registry) (*remembered, error),
) (*remembered, error) {
	if missing, ok := q.config.Cache.missing.Get(key); ok && q.config.Now().Before(missing.until) {
		return nil, missing.err
	}
	registry, err := q.registry(q.repo)
	if err != nil {
		return nil, err
	}
	if !free {
		if err := q.mayAskUpstream(); err != nil {
			return nil, err
		}
	}
	return fly(ctx, q, key, func(ctx context.Context) (*remembered, error) {
		m, err := fetch(ctx, registry)
		if oci.IsNotFound(err) {
			q.config.Cache.missing.SetWithTTL(key, missing{err: err, until: q.config.Now().Add(notFoundTTL)}, 1, notFoundTTL)
		}
		return m, err
	})
}

func (g *Gate) fetch(ctx context.Context, registry Registry, image policy.Image) (*remembered, error) {
	got, err := registry.Manifest(ctx, image, g.config.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}
	var m *remembered
	err = g.slot(ctx, func() error { // parsing takes many times the bytes: as many at once as there are CPUs
		s, err := oci.ParseManifest(got.Bytes, got.MediaType, g.config.Limits.Descriptors)
		if err != nil {
			return err
		}
		got.MediaType = s.MediaType
		m = newRemembered(got, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	g.config.Cache.putManifest(image.Repository, m)
	return m, nil
}

func (g *Gate) registry(repo policy.Repository) (Registry, error) {
	r, ok := g.config.Registry(repo.Host)
	if !ok {
		return nil, fmt.Errorf("no upstream is configured for %s", repo.Host)
	}
	return r, nil
}
