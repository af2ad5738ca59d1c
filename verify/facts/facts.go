// Package facts remembers structure: which admitted manifest lists which
// parts, the bytes of small manifests, and the signatures that made an image
// count. It knows repositories, digests and bytes. It must not know verdicts,
// signature formats, registries or HTTP.
//
// A fact grants nothing. The gate checks every answer against the parent's own
// bytes and judges the parent again, so a poisoned store can deny a pull but
// cannot admit one.
package facts

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	// MaxParents bounds the parents that a store keeps of one part. The newest
	// stay.
	MaxParents = 64
	// MaxIndexes bounds the indexes that a store lists for one repository. The
	// newest stay.
	MaxIndexes = 64
	// MaxManifestBytes is the largest manifest that a store keeps. The gate
	// fetches larger ones again by digest.
	MaxManifestBytes = 256 << 10
	// MaxEvidenceBytes is the largest Evidence that a store keeps, as JSON.
	MaxEvidenceBytes = 64 << 10
)

// Store remembers facts durably. Every implementation is safe for concurrent
// use and passes factstest.Conformance.
//
// A miss is not an error: the store works and does not know. An error means
// that the store could not be asked, and the gate then cannot tell. The context
// bounds how long a call waits for anything but the local disk.
type Store interface {
	// Learn records f. When it returns nil, all of f is durable, and it stays
	// known at least until Epoch changes from what Learned says.
	Learn(ctx context.Context, f Fact) (Learned, error)

	// Epoch changes whenever the store may have begun to forget what it learned of
	// repo before; then the gate writes again what it uses. It is never 0. The
	// gate asks on every pull, so Epoch answers from memory.
	Epoch(ctx context.Context, repo policy.Repository) uint64

	// Indexes lists the manifests of repo that list manifests, the one that was
	// learned last first and at most MaxIndexes.
	Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error)

	// Parents lists the manifests of repo that list the part d, newest first and
	// at most MaxParents. The store keeps for longer what is asked for.
	Parents(ctx context.Context, repo policy.Repository, kind PartKind, d digest.Digest) ([]digest.Digest, error)

	// Manifest returns the bytes kept of d, which the caller may change. It
	// hashes them: ok is false when they are not kept or do not match d. The
	// media type is the store's word, and proves nothing.
	Manifest(ctx context.Context, repo policy.Repository, d digest.Digest) (m oci.Manifest, ok bool, err error)

	// Seen returns when a registry last had the manifest d; the zero time when
	// that is not known.
	Seen(ctx context.Context, repo policy.Repository, d digest.Digest) (time.Time, error)

	// Evidence returns what is kept of d, if a registry had it at most maxAge
	// before now; else the zero Evidence. What it had only after now is not
	// returned: a clock was set back.
	Evidence(
		ctx context.Context,
		repo policy.Repository,
		d digest.Digest,
		now time.Time,
		maxAge time.Duration,
	) (Evidence, error)
}

// Fact is what one admitted manifest says.
type Fact struct {
	Repository policy.Repository
	Manifest   oci.Manifest  // kept beside the fact up to MaxManifestBytes
	Parts      oci.Structure // whose Manifests and Blobs are recorded
	SeenAt     time.Time     // when a registry last had it, to the second; zero leaves what is kept as it is
	Evidence   *Evidence     // what made it count; nil leaves what is kept as it is
}

// Learned is what became of a fact.
type Learned struct {
	// Epoch is the one that the fact was written in.
	Epoch uint64
	// PushedOut are parents in the fact's repository that the store forgot for
	// one part or more, because newer ones took their places.
	PushedOut []digest.Digest
}

// PartKind says what a part was listed as. A digest listed as a blob is no
// manifest, and the other way round.
type PartKind byte

// The values are written into state files and must not change.
const (
	PartManifest PartKind = 'm' // a child of an index
	PartBlob     PartKind = 'b' // a config or a layer
)
