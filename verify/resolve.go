package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/judge"
	"github.com/pullgate/pullgate/verify/oci"
)

// notFoundTTL is how long an upstream's 404 is believed: a client that asks
// again and again does not spend the upstream's quota.
const notFoundTTL = 3 * time.Second

// overQuotaTTL is how long a tag is answered without asking upstream when the
// client has asked too often: it makes the gate ask once in that time, however
// often it asks itself.
const overQuotaTTL = time.Second

// resolve turns a reference into the bytes it stands for now: by digest from
// memory, state or upstream; by tag with one coalesced HEAD when the manifest
// is known already, else with one GET.
func (q *question) resolve(ctx context.Context, ref policy.Reference) (*cachedManifest, error) {
	if ref.Digest != "" {
		m, err := q.load(ctx, ref.Digest)
		if err != nil {
			return nil, err
		}
		return q.current(ctx, m)
	}

	key := tagKey(q.repo, ref.Tag)
	was, seen := q.config.Cache.tags.Get(key)
	if !seen {
		m, err := q.firstOfTag(ctx, key, ref.Tag)
		if err == nil {
			q.rememberTag(key, m)
		}
		return m, err
	}

	age := q.config.Now().Sub(was.at)
	if age < q.config.TagTTL {
		if m, ok := q.config.Cache.manifests.Get(imageKey(q.repo, was.digest)); ok {
			return m, nil
		}
	}
	if m, err := q.overQuota(ctx, key, was); m != nil || err != nil {
		return m, err
	}

	m, err := q.refreshTag(ctx, key, ref.Tag)
	if err == nil {
		q.rememberTag(key, m)
		return m, nil
	}
	if oci.IsUnavailable(err) && age < q.config.StaleIfError {
		// The upstream is away: what the tag stood for is judged as of now.
		if m, knownErr := q.known(ctx, was.digest); knownErr == nil && m != nil {
			return m, nil
		}
	}
	return nil, err
}

func (q *question) rememberTag(key string, m *cachedManifest) {
	now := q.config.Now()
	q.config.Cache.tags.Set(key, cachedTag{digest: m.Digest, at: now, asked: now}, 1)
}

// overQuota answers a client without a question left with what the tag was a
// moment ago. Nil without an error means that the upstream is asked all the same.
func (q *question) overQuota(ctx context.Context, key string, was cachedTag) (*cachedManifest, error) {
	spent := q.exhausted(q.client)
	if spent == nil {
		return nil, nil
	}

	now := q.config.Now()
	if now.Sub(was.at) < overQuotaTTL {
		if m, err := q.known(ctx, was.digest); m != nil || err != nil {
			return m, err
		}
	}
	if now.Sub(was.asked) < overQuotaTTL {
		return nil, spent
	}
	was.asked = now
	q.config.Cache.tags.Set(key, was, 1)
	return nil, nil
}

// firstOfTag gets the manifest of a tag that memory does not have. Where the
// registry counts fetches and not HEADs (Docker Hub), and the state knows images of
// the repository, what the tag stands for is asked first: it may be one of them.
// Otherwise that would cost every new image a round trip.
func (q *question) firstOfTag(ctx context.Context, key, tag string) (*cachedManifest, error) {
	registry, err := q.upstream(key)
	if err != nil {
		return nil, err
	}
	counts, ok := registry.(interface{ CountsManifests() bool })
	if !ok || !counts.CountsManifests() {
		return q.fetchTag(ctx, key, tag)
	}

	known, err := q.config.Store.Indexes(ctx, q.repo)
	if err != nil || len(known) == 0 { // a state that fails is found out where it is needed
		return q.fetchTag(ctx, key, tag)
	}
	return q.refreshTag(ctx, key, tag)
}

// fetchTag gets the manifest that tag stands for, at the client's expense.
func (q *question) fetchTag(ctx context.Context, key, tag string) (*cachedManifest, error) {
	return q.fetchCharged(ctx, key, q.repo.Tagged(tag))
}

// refreshTag asks with a HEAD what tag stands for now, and gets that manifest
// only if it is not known. Questions share the HEAD; each pays for a manifest
// itself, or else one client's quota would be others' answer. A HEAD that says
// nothing is followed by a GET: that the tag has moved must not go unnoticed.
func (q *question) refreshTag(ctx context.Context, key, tag string) (*cachedManifest, error) {
	registry, err := q.upstream(key)
	if err != nil {
		return nil, err
	}

	d, err := coalesce(ctx, q, "head|"+key, func(ctx context.Context) (digest.Digest, error) {
		return q.head(ctx, key, registry, tag)
	})
	switch {
	case hungUp(err):
		return q.afterHangUp(ctx, key, tag, err)
	case err != nil:
		return nil, err
	}

	if d != "" {
		if m, err := q.known(ctx, d); err == nil && m != nil {
			m.seen.Store(q.config.Now().Unix())
			return m, nil
		}
	}
	return q.fetchTag(ctx, key, tag)
}

// hungUp reports whether a HEAD failed before its time was over. Some registries
// answer so to HEAD alone.
func hungUp(err error) bool {
	return err != nil && oci.IsUnavailable(err) && !errors.Is(err, context.DeadlineExceeded)
}

// afterHangUp asks by GET what a HEAD did not tell, within a third of the time:
// what follows an upstream that stalls needs some. failed is the HEAD's error,
// which stands where the client has no question left.
func (q *question) afterHangUp(ctx context.Context, key, tag string, failed error) (*cachedManifest, error) {
	ctx, cancel := context.WithTimeout(ctx, q.config.Limits.VerifyTimeout/3)
	defer cancel()

	m, err := q.fetchTag(ctx, key, tag)
	var spent *QuotaError
	if errors.As(err, &spent) {
		return nil, failed
	}
	return m, err
}

// head is the digest that tag stands for now; empty when the upstream does not say.
func (q *question) head(ctx context.Context, key string, registry Registry, tag string) (digest.Digest, error) {
	// A third of the time: what follows an upstream that stalls needs some.
	ctx, cancel := context.WithTimeout(ctx, q.config.Limits.VerifyTimeout/3)
	defer cancel()
	counting := &countingRegistry{Registry: registry}
	defer q.charge(counting)

	d, ok, err := counting.Resolve(ctx, q.repo, tag)
	if err != nil {
		q.believe(key, err)
		return "", err
	}
	if !ok {
		return "", nil
	}
	return d, nil
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

	return q.fetchCharged(ctx, "manifest|"+imageKey(q.repo, d), q.repo.At(d))
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
	seen, err := q.config.Store.Seen(ctx, q.repo, d)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}

	kept.MediaType = s.MediaType // not the state's word
	m := newCachedManifest(kept, s)
	if !seen.IsZero() {
		m.seen.Store(seen.Unix())
		m.saved.Store(seen.Unix())
	}
	q.config.Cache.putManifest(q.repo, m)
	return m, nil
}

// fetchCharged gets image once for all questions that ask for key meanwhile, and
// charges each to its client. A 404 is believed briefly; other errors are not
// remembered.
func (q *question) fetchCharged(ctx context.Context, key string, image policy.Image) (*cachedManifest, error) {
	registry, err := q.upstream(key)
	if err != nil {
		return nil, err
	}
	if err := q.mayAskUpstream(); err != nil {
		return nil, err
	}

	return coalesce(ctx, q, key, func(ctx context.Context) (*cachedManifest, error) {
		counting := &countingRegistry{Registry: registry}
		defer q.charge(counting)

		m, err := q.fetch(ctx, counting, image)
		q.believe(key, err)
		return m, err
	})
}

// upstream is the registry to ask for key, or the 404 that it gave a moment ago.
func (q *question) upstream(key string) (Registry, error) {
	if miss, ok := q.config.Cache.misses.Get(key); ok && q.config.Now().Before(miss.until) {
		return nil, miss.err
	}
	return q.registry(q.repo)
}

// believe remembers err for a moment if it is an upstream's 404.
func (q *question) believe(key string, err error) {
	if oci.IsNotFound(err) {
		miss := cachedMiss{err: err, until: q.config.Now().Add(notFoundTTL)}
		q.config.Cache.misses.SetWithTTL(key, miss, 1, notFoundTTL)
	}
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
		m.seen.Store(g.config.Now().Unix())
		return nil
	})
	if err != nil {
		return nil, err
	}

	g.config.Cache.putManifest(image.Repository, m)
	return m, nil
}

// mirrors are the registries behind that of repo, if there are several. What they
// are asked counts as what counting is.
func (g *Gate) mirrors(repo policy.Repository, counting *countingRegistry) []judge.Registry {
	if g.config.Mirrors == nil {
		return nil
	}
	each := g.config.Mirrors(repo.Host)
	if len(each) < 2 {
		return nil
	}

	var list []judge.Registry
	for _, r := range each {
		list = append(list, counting.also(r))
	}
	return list
}

func (g *Gate) registry(repo policy.Repository) (Registry, error) {
	r, ok := g.config.Registry(repo.Host)
	if !ok {
		return nil, fmt.Errorf("no upstream is configured for %s", repo.Host)
	}
	return r, nil
}
