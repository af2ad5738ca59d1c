package verify

import (
	"fmt"
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
	verdicts  *ristretto.Cache[string, judgement]
	manifests *ristretto.Cache[string, *remembered]
	tags      *ristretto.Cache[string, tagged]
	missing   *ristretto.Cache[string, missing] // of its own: 404s push nothing else out
}

// remembered is a manifest with its structure, parsed once.
type remembered struct {
	oci.Manifest
	oci.Structure
	artefact *sigs.Artifact // what its labels claim; nil: it is an image or an index
	alias    digest.Digest  // the same bytes by the other algorithm
	written  atomic.Int64   // when its facts were, in Unix seconds
	learned  atomic.Uint64  // the store's epoch when its facts were written; 0: not on disk
}

func newRemembered(m oci.Manifest, s oci.Structure) *remembered {
	other := digest.SHA512
	if m.Digest.Algorithm() == digest.SHA512 {
		other = digest.SHA256
	}
	r := &remembered{Manifest: m, Structure: s, alias: other.FromBytes(m.Bytes)}
	if s.Kind == oci.Image {
		r.artefact, _ = sigs.ParseArtifact(m.Bytes)
	}
	return r
}

type tagged struct {
	digest digest.Digest
	at     time.Time
}

type missing struct {
	err   error
	until time.Time
}

// NewCache bounds the memory: maxVerdicts entries, manifestBytes bytes.
func NewCache(maxVerdicts, manifestBytes int64) (*Cache, error) {
	verdicts, err := ristretto.NewCache(&ristretto.Config[string, judgement]{
		NumCounters:        10 * maxVerdicts,
		MaxCost:            maxVerdicts,
		BufferItems:        64,
		IgnoreInternalCost: true, // else a cost of 1 keeps 17 entries of 1000
	})
	if err != nil {
		return nil, fmt.Errorf("verdict cache: %w", err)
	}
	manifests, err := ristretto.NewCache(&ristretto.Config[string, *remembered]{
		NumCounters:        max(10_000, manifestBytes/256),
		MaxCost:            manifestBytes,
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("manifest cache: %w", err)
	}
	tags, err := ristretto.NewCache(&ristretto.Config[string, tagged]{
		NumCounters:        1_000_000,
		MaxCost:            100_000,
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("tag cache: %w", err)
	}
	missing, err := ristretto.NewCache(&ristretto.Config[string, missing]{
		NumCounters:        100_000,
		MaxCost:            10_000,
		BufferItems:        64,
		IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cache of 404s: %w", err)
	}
	return &Cache{
		verdicts:  verdicts,
		manifests: manifests,
		tags:      tags,
		missing:   missing,
	}, nil
}

// Close stops the caches' goroutines.
func (c *Cache) Close() {
	c.verdicts.Close()
	c.manifests.Close()
	c.tags.Close()
	c.missing.Close()
}

func (g *Gate) verdictKey(repo policy.Repository, d digest.Digest, p *policy.Policy) string {
	return repo.String() + "@" + d.String() + "|" + p.Hash + g.judge.Generation(p)
}

func imageKey(repo policy.Repository, d digest.Digest) string {
	return repo.String() + "@" + d.String()
}

func (c *Cache) putManifest(repo policy.Repository, m *remembered) {
	c.manifests.Set(imageKey(repo, m.Digest), m, int64(len(m.Bytes))+512)
}
