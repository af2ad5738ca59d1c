package judge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
	"github.com/pullgate/pullgate/verify/sigs"
)

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

	image := policy.Image{Repository: s.place.Repository, Reference: ref}
	m, err := s.place.Registry.Manifest(ctx, image, granted)
	s.budget.giveBack(granted - int64(len(m.Bytes)))
	switch {
	case errors.Is(err, oci.ErrTooLarge) && (granted < limit || limit == s.limits.ManifestBytes):
		s.note(
			reason.Limit,
			"%s holds a manifest that is larger than the limits allow; it was not examined",
			s.where,
		)
		return nil, nil
	case none(err):
		return nil, nil
	case ref.Tag != "" && isWithheld(err):
		s.withhold(err)
		return nil, nil
	case err != nil:
		return nil, err
	}

	var l listing
	err = oci.CheckStrict(m.Bytes, oci.MaxManifestDepth, maxListingTokens)
	if err != nil || json.Unmarshal(m.Bytes, &l) != nil {
		s.note(reason.Unreadable, "%s holds something that is no manifest", s.where)
		return nil, nil
	}
	return &l, nil
}

// none reports the answers that mean "nothing of that here".
func none(err error) bool {
	var u *oci.UpstreamError
	if !errors.As(err, &u) {
		return false
	}
	switch u.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusBadRequest:
		return true
	}
	return false
}

// attachedOnes examines what a list of referrers names.
func (s *source) attachedOnes(ctx context.Context, list []oci.Descriptor) error {
	// The artifact type is a hint that registries get wrong: likely ones go
	// first, none is skipped for it.
	slices.SortStableFunc(list, func(a, b oci.Descriptor) int { return unlikely(a) - unlikely(b) })
	if limit := s.limits.Signatures; len(list) > limit {
		s.note(
			reason.Limit,
			"%s lists %d artifacts; only %d were examined (limits.signatures)",
			s.where,
			len(list),
			limit,
		)
		list = list[:limit]
	}

	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, d := range list {
		all.Go(func() error {
			return Guard(func() error { return s.referrer(ctx, d) })
		})
	}
	return all.Wait()
}

// unlikely is how little d looks like a signature, 0 for one that does.
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
	if oci.CheckDigest(d.Digest) != nil || d.Size <= 0 || d.Size > s.limits.ManifestBytes {
		s.note(reason.Unreadable, "%s lists an artifact without a proper digest or size", s.where)
		return nil
	}

	// Somewhat more than listed: a registry that sends more than it has has not
	// said that there is no signature.
	limit := min(max(d.Size, leastManifest), s.limits.ManifestBytes)
	m, err := s.manifest(ctx, policy.Reference{Digest: d.Digest}, limit)
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
				reason.Limit,
				"%s holds more than %d signatures; the rest was not examined (limits.signatures)",
				s.where,
				s.limits.Signatures,
			)
			break
		}
		all.Go(func() error {
			return Guard(func() error { return s.candidate(ctx, l, kind) })
		})
	}
	return all.Wait()
}

// candidate fetches what one layer holds and hands it to found.
func (s *source) candidate(ctx context.Context, l oci.Descriptor, kind sigs.Kind) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	limit := s.limits.PayloadBytes
	if kind == sigs.Legacy || !s.attestations {
		limit = min(limit, sigs.MaxPayload)
	}
	if !s.fits(l, limit) {
		return nil
	}

	// Whatever the size that is listed, the digest decides: a registry that sends
	// more than it has has not said that there is no signature.
	most := max(l.Size, min(limit, sigs.MaxPayload))
	payload, err := s.place.Registry.Blob(ctx, s.place.Repository, l.Digest, most)
	switch {
	case errors.Is(err, oci.ErrTooLarge):
		s.note(reason.Limit, "%s lists a signature that is larger than any is", s.where)
		return nil
	case oci.IsNotFound(err):
		s.note(reason.Missing, "%s lists a signature that the registry does not have", s.where)
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

// fits reports whether a layer may be fetched, and takes its bytes from the
// budget; if not, it notes why.
func (s *source) fits(l oci.Descriptor, limit int64) bool {
	switch {
	case oci.CheckDigest(l.Digest) != nil || l.Size < 0:
		s.note(reason.Unreadable, "%s lists a signature without a proper digest or size", s.where)
		return false
	case l.Size > limit && limit == s.limits.PayloadBytes:
		s.note(
			reason.Limit,
			"%s lists something of %d KiB, more than limits.payloadBytes allows; it was not examined",
			s.where,
			l.Size>>10,
		)
		return false
	case l.Size > limit:
		s.note(reason.Limit, "%s lists a signature that is larger than any is", s.where)
		return false
	}

	if !s.budget.Take(l.Size) {
		s.tooMuch()
		return false
	}
	return true
}
