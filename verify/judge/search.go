package judge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
	"github.com/pullgate/pullgate/verify/sigs"
)

// search finds what claims to be a signature of image, in the .sig tag, the
// referrers API and the fallback tag at once: asking the last only where the API
// has nothing would save a request of some allows, and cost every denial, and
// every allow from a registry without the API, a round trip. Everything it hands
// to found is untrusted.
type search struct {
	limits Limits
	place  Place
	image  digest.Digest

	// tally says how likely a candidate counts. found examines it; r is nil
	// where it has not been read yet.
	tally *tally
	found func(c sigs.Candidate, r *sigs.Reading)

	attestations bool // look for them as well

	mu    sync.Mutex
	notes []reason.Reason // what was there and was not examined, for the refusal
	err   error           // the first look-up that could not be answered

	withheld map[Registry]error // the first look-up that each registry refused
}

// source is one place where signatures are looked for. Limits count per source,
// so that a flood in one starves no other.
type source struct {
	*search
	registry Registry
	where    string
	share    int64 // bytes that may be fetched from here
	budget   *Budget

	candidates  atomic.Int64 // that may still be examined
	bundles     atomic.Int64 // that may still be fetched
	overPayload atomic.Int64 // signatures over payloads at hand that may still be examined
	hashed      *Budget      // bytes of those payloads that may still be hashed

	held []held // what is examined at last; under mu
}

const (
	sources          = 4
	fetchesPerSource = 8      // at once
	maxListingTokens = 60_000 // of a signature manifest or a fallback index
	leastManifest    = 64 << 10
)

// sigTag is the place that holds signatures alone.
const sigTag = "the .sig tag"

func (s *search) source(registry Registry, where string) *source {
	share := s.limits.VerdictBytes / sources
	if s.attestations && where != sigTag { // the largest that may count, with small ones beside it
		share += s.limits.PayloadBytes
	}

	src := &source{
		search:   s,
		registry: registry,
		where:    where,
		share:    share,
		budget:   NewBudget(share),
		hashed:   NewBudget(share),
	}
	src.candidates.Store(int64(s.limits.Signatures))
	src.bundles.Store(int64(s.limits.Signatures) * hintsPerSignature)
	src.overPayload.Store(maxOverPayload)
	return src
}

// runEach looks into one registry after the other, until the policy is satisfied.
// One that does not answer leaves half of the time to the others.
func (s *search) runEach(ctx context.Context) {
	registries := s.place.each()
	for i, registry := range registries {
		if i == len(registries)-1 {
			s.run(ctx, registry)
			return
		}

		s.runHalf(ctx, registry)
		if ctx.Err() != nil || s.tally.satisfied() {
			return
		}
	}
}

// runHalf is run within half of the time that is left.
func (s *search) runHalf(ctx context.Context, registry Registry) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/2))
		defer cancel()
	}
	s.run(ctx, registry)
}

// run asks every place of a registry at once and returns when all have answered,
// or need not.
func (s *search) run(ctx context.Context, registry Registry) {
	var all sync.WaitGroup
	ask := func(where string, look func(context.Context, *source) error) {
		all.Go(func() {
			s.fail(Guard(func() error {
				src := s.source(registry, where)
				if err := look(ctx, src); err != nil {
					return err
				}
				return src.examineHeld(ctx)
			}))
		})
	}

	if s.image.Algorithm() == digest.SHA256 { // a sha512 .sig tag is longer than a tag may be
		ask(sigTag, func(ctx context.Context, src *source) error { return src.legacyTag(ctx, ".sig", sigs.Legacy) })
		if s.attestations {
			ask("the .att tag", func(ctx context.Context, src *source) error {
				return src.legacyTag(ctx, ".att", sigs.Envelope)
			})
		}
	}
	ask("the referrers API", func(ctx context.Context, src *source) error { return src.referrers(ctx) })
	ask("the referrers tag", func(ctx context.Context, src *source) error { return src.fallbackTag(ctx) })
	all.Wait()
}

func (s *search) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if err != nil && s.err == nil {
		s.err = err
	}
}

func (s *search) note(code reason.Code, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.notes = append(s.notes, reason.Reason{Code: code, Text: fmt.Sprintf(format, args...)})
}

// isWithheld reports the answers of registries that do not say whether there is
// something: Artifactory's 403 for a tag that does not exist, 401 of others, and
// what some have instead of a referrers API. Where the image itself can be read
// they mean that nothing is here; what is not shown admits nothing.
func isWithheld(err error) bool {
	var u *oci.UpstreamError
	if !errors.As(err, &u) {
		return false
	}
	switch u.Status {
	case http.StatusUnauthorized,
		http.StatusForbidden,
		http.StatusNotAcceptable,
		http.StatusGone,
		http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// withhold notes that the registry refuses to show what is in this place.
func (s *source) withhold(err error) {
	var u *oci.UpstreamError
	if errors.As(err, &u) {
		s.note(reason.NotShown, "the registry answered %d (%s) for %s: what it does not show cannot count",
			u.Status, http.StatusText(u.Status), s.where)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.withheld[s.registry] == nil {
		s.withheld[s.registry] = err
	}
}

// tooMuch notes that the budget of this place is spent.
func (s *source) tooMuch() {
	s.note(
		reason.Limit,
		"%s holds more than %d KiB, its share of limits.verdictBytes; the rest was not examined",
		s.where,
		s.share>>10,
	)
}

// legacyTag reads sha256-<hex>.sig or .att, where cosign v1 and v2 keep
// signatures and attestations.
func (s *source) legacyTag(ctx context.Context, suffix string, kind sigs.Kind) error {
	tag := policy.Reference{Tag: "sha256-" + s.image.Encoded() + suffix}
	m, err := s.manifest(ctx, tag, s.limits.ManifestBytes)
	if err != nil || m == nil {
		return err
	}
	return s.layers(ctx, m, 0, kind)
}

// referrers reads the referrers API, where the registry has one.
func (s *source) referrers(ctx context.Context) error {
	limit := s.budget.most(s.limits.ManifestBytes)
	r, err := s.registry.Referrers(ctx, s.place.Repository, s.image, limit)
	if errors.Is(err, oci.ErrTooLarge) {
		s.note(reason.Limit, "the registry lists more referrers than can be read")
		return nil
	}
	if isWithheld(err) {
		s.withhold(err)
		return nil
	}
	if err != nil {
		return err
	}

	if r.Truncated {
		s.note(reason.Limit, "the registry lists more referrers than are examined")
	}
	return s.attachedOnes(ctx, r.Descriptors)
}

// fallbackTag reads the index under the referrers tag, which clients keep where
// a registry has no referrers API, or had none.
func (s *source) fallbackTag(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}

	tag := policy.Reference{Tag: s.image.Algorithm().String() + "-" + s.image.Encoded()[:64]}
	m, err := s.manifest(ctx, tag, s.limits.ManifestBytes)
	if err != nil || m == nil {
		return err
	}

	if m.Manifests == nil {
		return s.attached(ctx, m, 0)
	}
	return s.attachedOnes(ctx, *m.Manifests)
}
