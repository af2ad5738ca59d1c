package verify

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/sigs"
)

// Cache is the gate's memory: verdicts, manifests and tags. Losing any of it
// costs time, never an answer. It outlives a reload: its keys carry what a
// verdict depends on. Safe for concurrent use.
type Cache struct {
	verdicts  *memory[judgement]
	manifests *memory[*cachedManifest]
	tags      *memory[cachedTag]
	misses    *memory[cachedMiss] // apart, so that 404s push nothing else out
}

// cachedManifest is a manifest with its structure, parsed once. What is larger in
// memory than in the bytes, as annotations are, is parsed anew when it is needed.
type cachedManifest struct {
	oci.Manifest
	oci.Structure
	artifact bool          // its labels claim that it is a signature artifact
	subject  digest.Digest // of such an artifact: the image that its manifest names, if any
	alias    digest.Digest // the same bytes by the other algorithm
	written  atomic.Int64  // when its facts were written, in Unix seconds
	seen     atomic.Int64  // when the registry last had it, in Unix seconds; 0: not known
	tried    atomic.Int64  // when it was last asked for again
	saved    atomic.Int64  // seen, as the state has it
	learned  atomic.Uint64 // the store's epoch when its facts were written; 0: not on disk
}

func newCachedManifest(m oci.Manifest, s oci.Structure) *cachedManifest {
	other := digest.SHA512
	if m.Digest.Algorithm() == digest.SHA512 {
		other = digest.SHA256
	}

	cached := &cachedManifest{
		Manifest:  m,
		Structure: s,
		alias:     other.FromBytes(m.Bytes),
	}
	if s.Kind == oci.Image {
		if a, ok := sigs.ParseArtifact(m.Bytes); ok {
			cached.artifact, cached.subject = true, a.Subject
		}
	}
	return cached
}

// cachedOverhead is what a manifest takes in memory beside its bytes and its
// digests: its fields, its names, and its place in the cache.
const cachedOverhead = 1024

// size is how many bytes m takes in memory.
func (m *cachedManifest) size() int64 {
	n := cachedOverhead + cap(m.Bytes) + len(m.subject) + 8*cap(m.Sizes)
	for _, list := range [][]digest.Digest{m.Manifests, m.Blobs} {
		n += 16 * cap(list)
		for _, d := range list {
			n += (len(d) + 15) &^ 15 // as the allocator rounds it
		}
	}
	return int64(n)
}

// cachedTag is what a tag stood for.
type cachedTag struct {
	digest digest.Digest
	at     time.Time
	asked  time.Time // for a client without quota, which is not answered by it each time
}

// cachedMiss is an upstream's 404, believed until a moment.
type cachedMiss struct {
	err   error
	until time.Time
}

// NewCache bounds the memory: maxVerdicts entries, manifestBytes bytes.
func NewCache(maxVerdicts, manifestBytes int64) (*Cache, error) {
	verdicts, err := newMemory[judgement]("verdict cache", 10*maxVerdicts, maxVerdicts)
	if err != nil {
		return nil, err
	}
	manifests, err := newMemory[*cachedManifest]("manifest cache", max(10_000, manifestBytes/256), manifestBytes)
	if err != nil {
		return nil, err
	}
	tags, err := newMemory[cachedTag]("tag cache", 1_000_000, 100_000)
	if err != nil {
		return nil, err
	}
	misses, err := newMemory[cachedMiss]("cache of 404s", 100_000, 10_000)
	if err != nil {
		return nil, err
	}

	return &Cache{
		verdicts:  verdicts,
		manifests: manifests,
		tags:      tags,
		misses:    misses,
	}, nil
}

// newMemory bounds one cache to maxCost; counters, about ten for each entry,
// are what its admission policy counts with.
func newMemory[V any](name string, counters, maxCost int64) (*memory[V], error) {
	cache, err := ristretto.NewCache(&ristretto.Config[string, V]{
		NumCounters:        counters,
		MaxCost:            maxCost,
		BufferItems:        64,
		IgnoreInternalCost: true, // else a cost of 1 keeps 17 entries of 1000
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &memory[V]{Cache: cache}, nil
}

// memory is one of the caches. What it is given after Close it forgets: work that
// was given up may end later than the gate, and would meet a closed channel.
type memory[V any] struct {
	*ristretto.Cache[string, V]

	mu     sync.RWMutex
	closed bool
}

// Set gives it a value.
func (m *memory[V]) Set(key string, value V, cost int64) { m.SetWithTTL(key, value, cost, 0) }

// SetWithTTL gives it a value for a while; a ttl of 0 is no bound.
func (m *memory[V]) SetWithTTL(key string, value V, cost int64, ttl time.Duration) {
	m.mu.RLock()
	defer m.mu.RUnlock()

	if !m.closed {
		m.Cache.SetWithTTL(key, value, cost, ttl)
	}
}

// Wait returns when all that was given is held, or refused for want of room.
func (m *memory[V]) Wait() {
	m.mu.RLock()
	defer m.mu.RUnlock()

	if !m.closed {
		m.Cache.Wait()
	}
}

// Close stops the cache's goroutines.
func (m *memory[V]) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.closed = true
	m.Cache.Close()
}

// Close stops the caches' goroutines.
func (c *Cache) Close() {
	c.verdicts.Close()
	c.manifests.Close()
	c.tags.Close()
	c.misses.Close()
}

func (g *Gate) verdictKey(repo policy.Repository, d digest.Digest, p *policy.Policy) string {
	return repo.String() + "@" + d.String() + "|" + p.Hash + g.judge.Generation(p) + scopeOf(repo)
}

// imageKey names a manifest in memory and in flights.
func imageKey(repo policy.Repository, d digest.Digest) string {
	return repo.String() + "@" + d.String() + scopeOf(repo)
}

// tagKey names what a tag stands for, likewise.
func tagKey(repo policy.Repository, tag string) string {
	return "tag|" + repo.Tagged(tag).String() + scopeOf(repo)
}

// scopeOf is the end of every key: what one client's credentials read is not what
// another's do.
func scopeOf(repo policy.Repository) string {
	if repo.Scope == "" {
		return ""
	}
	return "|" + repo.Scope
}

func (c *Cache) putManifest(repo policy.Repository, m *cachedManifest) {
	c.manifests.Set(imageKey(repo, m.Digest), m, m.size())
}
