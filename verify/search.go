package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/sigs"
)

// search finds what claims to be a signature of image, in the .sig tag, the
// referrers API and the fallback tag at once: asking the last only where the API
// has nothing would save a request of some allows, and cost every denial, and
// every allow from a registry without the API, a round trip. Everything it hands
// to found is untrusted.
type search struct {
	gate     *Gate
	registry Registry
	repo     policy.Repository
	image    digest.Digest
	found    func(sigs.Candidate)

	attestations bool // look for them as well

	mu    sync.Mutex
	notes []string // what was there and was not examined, for the refusal
	err   error    // the first look-up that could not be answered
}

// source is one place where signatures are looked for. Limits count per source,
// so that whoever floods one starves no other.
type source struct {
	*search
	where      string
	share      int64 // bytes that may be fetched from here
	budget     *budget
	candidates atomic.Int64 // that may still be examined
}

const (
	sources          = 4
	fetchesPerSource = 8      // at once
	maxListingTokens = 60_000 // of a signature manifest or a fallback index
	leastManifest    = 64 << 10
)

func (s *search) source(where string) *source {
	share := s.gate.Limits.VerdictBytes / sources
	if s.attestations && where != sigTag { // the largest that may count, with small ones beside it
		share += s.gate.Limits.PayloadBytes
	}
	src := &source{
		search: s,
		where:  where,
		share:  share,
		budget: newBudget(share),
	}
	src.candidates.Store(int64(s.gate.Limits.Signatures))
	return src
}

// sigTag is the place that holds signatures alone.
const sigTag = "the .sig tag"

func (s *search) run(ctx context.Context) {
	var all sync.WaitGroup
	if s.image.Algorithm() == digest.SHA256 { // a sha512 .sig tag is longer than a tag may be
		all.Go(func() {
			s.fail(guard(func() error { return s.source(sigTag).legacyTag(ctx, ".sig", sigs.Legacy) }))
		})
		if s.attestations {
			all.Go(func() {
				s.fail(guard(func() error { return s.source("the .att tag").legacyTag(ctx, ".att", sigs.Envelope) }))
			})
		}
	}
	all.Go(func() { s.fail(guard(func() error { return s.source("the referrers API").referrers(ctx) })) })
	all.Go(func() { s.fail(guard(func() error { return s.source("the referrers tag").fallbackTag(ctx) })) })
	all.Wait()
}

func (s *search) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && s.err == nil {
		s.err = err
	}
}

func (s *search) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// tooMuch notes that the budget of this place is spent.
func (s *source) tooMuch() {
	s.note(
		"%s holds more than %d KiB, its share of limits.verdictBytes; the rest was not examined",
		s.where,
		s.share>>10,
	)
}

// legacyTag reads sha256-<hex>.sig or .att, where cosign v1 and v2 keep
// signatures and attestations.
func (s *source) legacyTag(ctx context.Context, suffix string, kind sigs.Kind) error {
	m, err := s.manifest(ctx, policy.Reference{Tag: "sha256-" + s.image.Encoded() + suffix}, s.gate.Limits.ManifestBytes)
	if err != nil || m == nil {
		return err
	}
	return s.layers(ctx, m, kind)
}

// referrers reads the referrers API, where the registry has one.
func (s *source) referrers(ctx context.Context) error {
	r, err := s.registry.Referrers(ctx, s.repo, s.image, s.budget.most(s.gate.Limits.ManifestBytes))
	if errors.Is(err, oci.ErrTooLarge) {
		s.note("the registry lists more referrers than can be read")
		return nil
	}
	if err != nil {
		return err
	}
	if r.Truncated {
		s.note("the registry lists more referrers than are examined")
	}
	return s.attachedOnes(ctx, r.Descriptors)
}

// fallbackTag reads the index under the referrers tag, which clients keep where
// a registry has no referrers API, or had none.
func (s *source) fallbackTag(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fallback := s.image.Algorithm().String() + "-" + s.image.Encoded()[:64]
	m, err := s.manifest(ctx, policy.Reference{Tag: fallback}, s.gate.Limits.ManifestBytes)
	if err != nil || m == nil {
		return err
	}
	if m.Manifests == nil {
		return s.attached(ctx, m)
	}
	return s.attachedOnes(ctx, *m.Manifests)
}

// listing is a signature manifest or a fallback index, as far as it is read.
type listing struct {
	Config    oci.Descriptor    `json:"config"`
	Layers    []oci.Descriptor  `json:"layers"`
	Manifests *[]oci.Descriptor `json:"manifests"`
	Subject   *oci.Descriptor   `json:"subject"`
}

// manifest fetches a listing of at most limit bytes by tag or digest. Nil
// without an error means that there is none, or none that can be read.
func (s *source) manifest(ctx context.Context, ref policy.Reference, limit int64) (*listing, error) {
	granted := s.budget.reserve(limit)
	if granted == 0 {
		s.tooMuch()
		return nil, nil
	}
	m, err := s.registry.Manifest(ctx, policy.Image{Repository: s.repo, Reference: ref}, granted)
	s.budget.giveBack(granted - int64(len(m.Bytes)))
	if errors.Is(err, oci.ErrTooLarge) && (granted < limit || limit == s.gate.Limits.ManifestBytes) {
		s.note("%s holds a manifest that is larger than the limits allow; it was not examined", s.where)
		return nil, nil
	}
	if none(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l listing
	if err := oci.CheckStrict(
		m.Bytes,
		oci.MaxManifestDepth,
		maxListingTokens,
	); err != nil ||
		json.Unmarshal(m.Bytes, &l) != nil {
		s.note("%s holds something that is no manifest", s.where)
		return nil, nil
	}
	return &l, nil
}

// none reports the answers that mean "nothing of that here".
func none(err error) bool {
	var u *oci.UpstreamError
	return errors.As(err, &u) && (u.Status == 404 || u.Status == 405 || u.Status == 501 || u.Status == 400)
}

// attachedOnes examines what a list of referrers names.
func (s *source) attachedOnes(ctx context.Context, list []oci.Descriptor) error {
	// The artifact type is a hint that registries get wrong: likely ones go
	// first, none is skipped for it.
	slices.SortStableFunc(list, func(a, b oci.Descriptor) int { return unlikely(a) - unlikely(b) })
	if limit := s.gate.Limits.Signatures; len(list) > limit {
		s.note("%s lists %d artifacts; only %d were examined (limits.signatures)", s.where, len(list), limit)
		list = list[:limit]
	}
	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, d := range list {
		all.Go(func() error { return guard(func() error { return s.referrer(ctx, d) }) })
	}
	return all.Wait()
}

func unlikely(d oci.Descriptor) int {
	switch {
	case sigs.IsBundle(d.ArtifactType), d.ArtifactType == sigs.ArtifactTypeSignature:
		return 0
	case d.ArtifactType == "", strings.HasPrefix(d.ArtifactType, "application/vnd.oci."):
		return 1
	}
	return 2
}

func (s *source) referrer(ctx context.Context, d oci.Descriptor) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if oci.CheckDigest(d.Digest) != nil || d.Size <= 0 || d.Size > s.gate.Limits.ManifestBytes {
		s.note("%s lists an artifact without a proper digest or size", s.where)
		return nil
	}
	// Somewhat more than listed: a registry that sends more than it has has not
	// said that there is no signature.
	m, err := s.manifest(ctx, policy.Reference{Digest: d.Digest}, min(max(d.Size, leastManifest), s.gate.Limits.ManifestBytes))
	if err != nil || m == nil {
		return err
	}
	return s.attached(ctx, m)
}

// attached examines a manifest that says whose referrer it is.
func (s *source) attached(ctx context.Context, m *listing) error {
	if m.Subject == nil || m.Subject.Digest != s.image {
		return nil // the list is the registry's word, the subject the author's
	}
	return s.layers(ctx, m, 0)
}

// layers examines the layers of a signature manifest: of one kind, or, with 0,
// of every kind that can count.
func (s *source) layers(ctx context.Context, m *listing, only sigs.Kind) error {
	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, l := range m.Layers {
		kind := sigs.KindOf(l.MediaType)
		if kind == 0 || only != 0 && kind != only || kind == sigs.Envelope && !s.attestations {
			continue
		}
		if s.candidates.Add(-1) < 0 {
			s.note(
				"%s holds more than %d signatures; the rest was not examined (limits.signatures)",
				s.where,
				s.gate.Limits.Signatures,
			)
			break
		}
		all.Go(func() error { return guard(func() error { return s.candidate(ctx, l, kind) }) })
	}
	return all.Wait()
}

func (s *source) candidate(ctx context.Context, l oci.Descriptor, kind sigs.Kind) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	limit := s.gate.Limits.PayloadBytes
	if kind == sigs.Legacy || !s.attestations {
		limit = min(limit, sigs.MaxPayload)
	}
	switch {
	case oci.CheckDigest(l.Digest) != nil || l.Size < 0:
		s.note("%s lists a signature without a proper digest or size", s.where)
		return nil
	case l.Size > limit && limit == s.gate.Limits.PayloadBytes:
		s.note(
			"%s lists something of %d KiB, more than limits.payloadBytes allows; it was not examined",
			s.where,
			l.Size>>10,
		)
		return nil
	case l.Size > limit:
		s.note("%s lists a signature that is larger than any is", s.where)
		return nil
	}
	if !s.budget.take(l.Size) {
		s.tooMuch()
		return nil
	}
	// Whatever the size that is listed, the digest decides: a registry that sends
	// more than it has has not said that there is no signature.
	payload, err := s.registry.Blob(ctx, s.repo, l.Digest, max(l.Size, min(limit, sigs.MaxPayload)))
	switch {
	case errors.Is(err, oci.ErrTooLarge):
		s.note("%s lists a signature that is larger than any is", s.where)
		return nil
	case oci.IsNotFound(err):
		s.note("%s lists a signature that the registry does not have", s.where)
		return nil
	case err != nil:
		return err
	}
	s.found(sigs.Candidate{
		Kind:        kind,
		Source:      s.where,
		Payload:     payload,
		Annotations: l.Annotations,
	})
	return nil
}

// budget is what may still be fetched, in bytes.
type budget struct{ left atomic.Int64 }

func newBudget(n int64) *budget {
	b := &budget{}
	b.left.Store(n)
	return b
}

// take reports whether n more bytes fit. What does not fit costs nothing.
func (b *budget) take(n int64) bool {
	for {
		left := b.left.Load()
		if n > left {
			return false
		}
		if b.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// reserve takes as much of n as there is, 0 when there is nothing left.
func (b *budget) reserve(n int64) int64 {
	for {
		left := b.left.Load()
		granted := min(n, left)
		if granted <= 0 {
			return 0
		}
		if b.left.CompareAndSwap(left, left-granted) {
			return granted
		}
	}
}

func (b *budget) giveBack(n int64) { b.left.Add(n) }

// most is the largest answer that still fits, at most limit and at least 1.
func (b *budget) most(limit int64) int64 { return max(1, min(limit, b.left.Load())) }
