package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

// search finds what claims to be a signature of image: the .sig tag beside the
// referrers API with its fallback tag. Everything it hands to found is
// untrusted.
type search struct {
	gate     *Gate
	registry Registry
	repo     policy.Repository
	image    digest.Digest
	budget   *budget
	found    func(sigs.Candidate)

	mu    sync.Mutex
	notes []string // what was there and was not examined, for the refusal
	err   error    // the first look-up that could not be answered
}

const fetchesPerSource = 8 // at once

func (s *search) run(ctx context.Context) {
	var both sync.WaitGroup
	if s.image.Algorithm() == digest.SHA256 { // a sha512 .sig tag is longer than a tag may be
		both.Go(func() { s.fail(guard(func() error { return s.legacyTag(ctx) })) })
	}
	both.Go(func() { s.fail(guard(func() error { return s.referrers(ctx) })) })
	both.Wait()
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

// legacyTag reads sha256-<hex>.sig, where cosign v1 and v2 keep signatures.
func (s *search) legacyTag(ctx context.Context) error {
	tag := "sha256-" + s.image.Encoded() + ".sig"
	m, err := s.manifest(ctx, tag)
	if err != nil || m == nil {
		return err
	}
	return s.layers(ctx, "the .sig tag", m, true)
}

// listing is a signature manifest or a fallback index, as far as it is read.
type listing struct {
	Config    Descriptor    `json:"config"`
	Layers    []Descriptor  `json:"layers"`
	Manifests *[]Descriptor `json:"manifests"`
	Subject   *Descriptor   `json:"subject"`
}

// manifest fetches a listing by tag or digest. Nil without an error means
// that there is none, or none that can be read.
func (s *search) manifest(ctx context.Context, reference string) (*listing, error) {
	m, err := s.registry.Manifest(ctx, s.repo, reference, s.budget.most(s.gate.Limits.ManifestBytes))
	if errors.Is(err, ErrTooLarge) {
		s.note("%s is larger than limits.manifestBytes or what is left of limits.verdictBytes; it was not examined", reference)
		return nil, nil
	}
	if none(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !s.budget.take(int64(len(m.Bytes))) {
		s.note("more signature data than limits.verdictBytes; the rest was not examined")
		return nil, nil
	}
	var l listing
	if err := sigs.CheckStrict(m.Bytes, maxManifestDepth, maxManifestTokens); err != nil || json.Unmarshal(m.Bytes, &l) != nil {
		s.note("%s is no manifest", reference)
		return nil, nil
	}
	return &l, nil
}

// none reports the answers that mean "nothing of that here".
func none(err error) bool {
	var u *UpstreamError
	return errors.As(err, &u) && (u.Status == 404 || u.Status == 405 || u.Status == 501 || u.Status == 400)
}

// layers examines the layers of a signature manifest.
func (s *search) layers(ctx context.Context, where string, m *listing, legacyOnly bool) error {
	var list []Descriptor
	for _, l := range m.Layers {
		if l.MediaType == sigs.MediaTypeSimpleSigning || !legacyOnly && sigs.IsBundle(l.MediaType) {
			list = append(list, l)
		}
	}
	if len(list) > s.gate.Limits.Signatures {
		s.note("%s holds %d signatures; only %d were examined (limits.signatures)", where, len(list), s.gate.Limits.Signatures)
		list = list[:s.gate.Limits.Signatures]
	}
	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, l := range list {
		all.Go(func() error { return guard(func() error { return s.candidate(ctx, where, l) }) })
	}
	return all.Wait()
}

func (s *search) candidate(ctx context.Context, where string, l Descriptor) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if CheckDigest(l.Digest) != nil || l.Size < 0 || l.Size > s.gate.Limits.PayloadBytes {
		s.note("%s lists a signature larger than limits.payloadBytes, or without a proper digest", where)
		return nil
	}
	if !s.budget.take(l.Size) {
		s.note("more signature data than limits.verdictBytes; the rest was not examined")
		return nil
	}
	payload, err := s.registry.Blob(ctx, s.repo, l.Digest, max(l.Size, 1))
	if errors.Is(err, ErrTooLarge) {
		s.note("%s lists a signature that is larger than it says", where)
		return nil
	}
	if IsNotFound(err) {
		s.note("%s lists a signature that the registry does not have", where)
		return nil
	}
	if err != nil {
		return err
	}
	kind := sigs.Legacy
	if sigs.IsBundle(l.MediaType) {
		kind = sigs.Bundle
	}
	s.found(sigs.Candidate{Kind: kind, Source: where, Payload: payload, Annotations: l.Annotations})
	return nil
}

// referrers reads the referrers API, or, where there is none or it lists
// nothing, the fallback tag.
func (s *search) referrers(ctx context.Context) error {
	r, err := s.registry.Referrers(ctx, s.repo, s.image, s.gate.Limits.ManifestBytes)
	if err != nil {
		return err
	}
	if r.Truncated {
		s.note("the registry lists more referrers than are examined")
	}
	list := r.Descriptors
	if len(list) == 0 {
		tag := s.image.Algorithm().String() + "-" + s.image.Encoded()[:64]
		m, err := s.manifest(ctx, tag)
		if err != nil || m == nil {
			return err
		}
		if m.Manifests == nil {
			return s.attached(ctx, m)
		}
		list = *m.Manifests
	}
	// The artifact type is a hint that registries get wrong: likely ones go
	// first, none is skipped for it.
	slices.SortStableFunc(list, func(a, b Descriptor) int { return unlikely(a) - unlikely(b) })
	if len(list) > s.gate.Limits.Signatures {
		s.note("there are %d referrers; only %d were examined (limits.signatures)", len(list), s.gate.Limits.Signatures)
		list = list[:s.gate.Limits.Signatures]
	}
	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, d := range list {
		all.Go(func() error { return guard(func() error { return s.referrer(ctx, d) }) })
	}
	return all.Wait()
}

func unlikely(d Descriptor) int {
	switch {
	case sigs.IsBundle(d.ArtifactType), d.ArtifactType == sigs.ArtifactTypeSignature:
		return 0
	case d.ArtifactType == "", strings.HasPrefix(d.ArtifactType, "application/vnd.oci."):
		return 1
	}
	return 2
}

func (s *search) referrer(ctx context.Context, d Descriptor) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if CheckDigest(d.Digest) != nil {
		s.note("the registry lists a referrer without a proper digest")
		return nil
	}
	m, err := s.manifest(ctx, d.Digest.String())
	if err != nil || m == nil {
		return err
	}
	return s.attached(ctx, m)
}

// attached examines a manifest that says whose referrer it is.
func (s *search) attached(ctx context.Context, m *listing) error {
	if m.Subject == nil || m.Subject.Digest != s.image {
		return nil // the list is the registry's word, the subject the author's
	}
	return s.layers(ctx, "a referrer", m, false)
}
