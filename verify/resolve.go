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

// fetchFunc gets a manifest from an upstream.
type fetchFunc func(context.Context, Registry) (*cachedManifest, error)

// resolve turns a reference into the bytes it stands for now: by digest from
// memory, state or upstream; by tag with one coalesced HEAD when the manifest
// is known already, else with one GET.
func (q *question) resolve(ctx context.Context, ref policy.Reference) (*cachedManifest, error) {
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

	var m *cachedManifest
	var err error
	if seen {
		m, err = q.fetchUncharged(ctx, key, q.refreshTag(ref.Tag)) // a HEAD, unless the tag has moved
	} else {
		m, err = q.fetchCharged(ctx, key, q.fetchTag(ref.Tag))
	}
	if err == nil {
		q.config.Cache.tags.Set(key, cachedTag{digest: m.Digest, at: q.config.Now()}, 1)
		return m, nil
	}

	if seen && oci.IsUnavailable(err) && age < q.config.StaleIfError {
		// The upstream is away: what the tag stood for is judged as of now.
		if m, knownErr := q.known(ctx, was.digest); knownErr == nil && m != nil {
			return m, nil
		}
	}
	return nil, err
}

// fetchTag gets the manifest that tag stands for.
func (q *question) fetchTag(tag string) fetchFunc {
	return func(ctx context.Context, registry Registry) (*cachedManifest, error) {
		return q.fetch(ctx, registry, q.repo.Tagged(tag))
	}
}

// refreshTag asks with a HEAD what tag stands for now, and gets that manifest,
// at the client's expense, only if it is not known. A HEAD that says nothing is
// followed by a GET: that the tag has moved must not go unnoticed.
func (q *question) refreshTag(tag string) fetchFunc {
	return func(ctx context.Context, registry Registry) (*cachedManifest, error) {
		// A third of the time: what follows an upstream that stalls needs some.
		brief, cancel := context.WithTimeout(ctx, q.config.Limits.VerifyTimeout/3)
		defer cancel()

		d, ok, err := registry.Resolve(brief, q.repo, tag)
		switch {
		case err != nil && (brief.Err() != nil || !oci.IsUnavailable(err)):
			return nil, err
		case err != nil: // it hung up, as some do on HEAD alone
			if q.mayAskUpstream() != nil {
				return nil, err
			}
			return q.fetch(brief, registry, q.repo.Tagged(tag))
		}
		if m, err := q.known(ctx, d); ok && m != nil && err == nil {
			return m, nil
		}

		if err := q.mayAskUpstream(); err != nil {
			return nil, err
		}
		return q.fetch(ctx, registry, q.repo.Tagged(tag))
	}
}

// load returns the manifest d of the repository: from memory, from beside the
// facts, or from upstream; hashed in any case.
func (q *question) load(ctx context.Context, d digest.Digest) (*cachedManifest, error) {
	if err := oci.CheckDigest(d); err != nil {
		return nil, err
	}
	if m, err := q.known(ctx, d); m != nil || err != nil {
		return m, err
	}

	key := "manifest|" + imageKey(q.repo, d)
	return q.fetchCharged(ctx, key, func(ctx context.Context, registry Registry) (*cachedManifest, error) {
		return q.fetch(ctx, registry, q.repo.At(d))
	})
}

// known returns the manifest d of the repository without asking the upstream,
// or nil.
func (q *question) known(ctx context.Context, d digest.Digest) (*cachedManifest, error) {
	if m, ok := q.config.Cache.manifests.Get(imageKey(q.repo, d)); ok {
		return m, nil
	}

	kept, ok, err := q.config.Store.Manifest(ctx, q.repo, d)
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
	m := newCachedManifest(kept, s)
	q.config.Cache.putManifest(q.repo, m)
	return m, nil
}

// fetchCharged coalesces concurrent fetches of key and charges each to its
// client. A 404 is believed briefly; other errors are not remembered.
func (q *question) fetchCharged(ctx context.Context, key string, get fetchFunc) (*cachedManifest, error) {
	registry, err := q.upstream(key)
	if err != nil {
		return nil, err
	}
	if err := q.mayAskUpstream(); err != nil {
		return nil, err
	}
	return q.fetchOnce(ctx, key, registry, get)
}

// fetchUncharged is fetchCharged at the gate's own expense: get charges the
// client if it does more than ask for a tag that is known.
func (q *question) fetchUncharged(ctx context.Context, key string, get fetchFunc) (*cachedManifest, error) {
	registry, err := q.upstream(key)
	if err != nil {
		return nil, err
	}
	return q.fetchOnce(ctx, key, registry, get)
}

// upstream is the registry to ask for key, or the 404 that it gave a moment ago.
func (q *question) upstream(key string) (Registry, error) {
	if miss, ok := q.config.Cache.misses.Get(key); ok && q.config.Now().Before(miss.until) {
		return nil, miss.err
	}
	return q.registry(q.repo)
}

func (q *question) fetchOnce(
	ctx context.Context,
	key string,
	registry Registry,
	get fetchFunc,
) (*cachedManifest, error) {
	return coalesce(ctx, q, key, func(ctx context.Context) (*cachedManifest, error) {
		m, err := get(ctx, registry)
		if oci.IsNotFound(err) {
			miss := cachedMiss{err: err, until: q.config.Now().Add(notFoundTTL)}
			q.config.Cache.misses.SetWithTTL(key, miss, 1, notFoundTTL)
		}
		return m, err
	})
}

// fetch gets a manifest from registry, parses it and puts it into memory.
func (g *Gate) fetch(ctx context.Context, registry Registry, image policy.Image) (*cachedManifest, error) {
	got, err := registry.Manifest(ctx, image, g.config.Limits.ManifestBytes)
	if err != nil {
		return nil, err
	}

	var m *cachedManifest
	err = g.slot(ctx, func() error { // parsing takes many times the bytes: as many at once as there are CPUs
		s, err := oci.ParseManifest(got.Bytes, got.MediaType, g.config.Limits.Descriptors)
		if err != nil {
			return err
		}
		got.MediaType = s.MediaType
		m = newCachedManifest(got, s)
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
