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
	m, err := s.registry.Manifest(ctx, image, granted)
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
		if ref.Digest != "" { // a replica that does not have it yet, or a list that is older than what it lists
			s.note(reason.Missing, "%s lists an artifact that the registry does not have", s.where)
		}
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
	newest := slices.Clone(list)
	slices.Reverse(newest)
	slices.SortStableFunc(newest, func(a, b oci.Descriptor) int { return s.unlikely(a) - s.unlikely(b) })

	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	read := 0
	bundles, others := s.limits.Signatures*hintsPerSignature, s.limits.Signatures
	for _, d := range newest {
		left := &others
		if sigs.IsBundle(d.ArtifactType) {
			left = &bundles
		}
		if *left--; *left < 0 {
			continue
		}
		at := read
		read++
		all.Go(func() error {
			return Guard(func() error { return s.referrer(ctx, d, at) })
		})
	}
	if read < len(list) {
		s.note(
			reason.Limit,
			"%s lists %d artifacts; only %d were examined (limits.signatures)",
			s.where,
			len(list),
			read,
		)
	}
	return all.Wait()
}

// predicateHint is where cosign says what a bundle attests to.
const predicateHint = "dev.sigstore.bundle.predicateType"

// unlikely is how little d looks like a signature that can count, 0 for one that
// does.
func (s *source) unlikely(d oci.Descriptor) int {
	switch {
	case sigs.IsBundle(d.ArtifactType), d.ArtifactType == sigs.ArtifactTypeSignature:
		if hint := d.Annotations[predicateHint]; hint != "" && !s.tally.wants(hint) {
			return 1
		}
		return 0
	case d.ArtifactType == "", strings.HasPrefix(d.ArtifactType, "application/vnd.oci."):
		return 1
	}
	return 2
}

func (s *source) referrer(ctx context.Context, d oci.Descriptor, at int) error {
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
	return s.attached(ctx, m, at)
}

// attached examines a manifest that says whose referrer it is. It is the at-th
// of its list, from the newest.
func (s *source) attached(ctx context.Context, m *listing, at int) error {
	if m.Subject == nil || m.Subject.Digest != s.image {
		return nil // the list is the registry's word, the subject the author's
	}
	return s.layers(ctx, m, at, 0)
}

// layers examines the layers of a signature manifest: of one kind, or, with 0,
// of every kind that can count.
func (s *source) layers(ctx context.Context, m *listing, at int, only sigs.Kind) error {
	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, p := range s.payloads(m, at, only) {
		all.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return Guard(func() error { return s.offer(ctx, p) })
		})
	}
	return all.Wait()
}

// fetch fetches what one layer holds. ok is false when there is nothing that can
// be examined, which is noted.
func (s *source) fetch(ctx context.Context, l oci.Descriptor, kind sigs.Kind) (content []byte, ok bool, err error) {
	limit := s.limits.PayloadBytes
	if kind == sigs.Legacy || !s.attestations {
		limit = min(limit, sigs.MaxPayload)
	}
	if !s.fits(l, limit) {
		return nil, false, nil
	}

	// Whatever the size that is listed, the digest decides: a registry that sends
	// more than it has has not said that there is no signature.
	most := max(l.Size, min(limit, sigs.MaxPayload))
	content, err = s.registry.Blob(ctx, s.place.Repository, l.Digest, most)
	switch {
	case errors.Is(err, oci.ErrTooLarge):
		s.note(reason.Limit, "%s lists a signature that is larger than any is", s.where)
		return nil, false, nil
	case oci.IsNotFound(err):
		s.note(reason.Missing, "%s lists a signature that the registry does not have", s.where)
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	return content, true, nil
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
