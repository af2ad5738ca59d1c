// Package judge finds what claims to be a signature of an image and says
// whether it satisfies a policy: it searches the places where signatures are
// kept, puts each candidate to the policy's authorities, matches signers with
// authorities, and says what was found. Every byte it fetches is untrusted.
//
// It knows the signatures of one image and nothing else: no parents, no memory,
// no warn mode, no clients. A Judgement is the answer; an error means "could
// not tell" and is never a denial.
package judge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
	"github.com/pullgate/pullgate/verify/sigs"
)

// Limits bounds what one judgement may cost. Every field is positive.
type Limits struct {
	ManifestBytes int64         // largest signature manifest or list of referrers
	PayloadBytes  int64         // largest signature payload or bundle
	VerdictBytes  int64         // all bytes fetched; where attestations count, PayloadBytes more per place
	Signatures    int           // candidates examined per place
	Timeout       time.Duration // for all of it
}

// Config is what a Judge is made of.
type Config struct {
	Policies []*policy.Policy
	Trust    sigs.Trust // roots and keys that the policies name; what is missing is not loaded yet
	Limits   Limits

	// Slot runs work that costs CPU, as many at once as there are slots. It
	// returns when the work has really ended, or with ctx's error when there
	// was no slot in time.
	Slot func(ctx context.Context, work func() error) error

	// Kept returns the signatures that were kept for image, while they may still
	// stand in for a registry that cannot be asked. They are verified again.
	Kept func(ctx context.Context, image policy.Image) ([]sigs.Candidate, error)

	// EveryLookup lets each look-up end, also when the policy is satisfied
	// already: what the registries answered is recorded, and must be whole.
	EveryLookup bool
}

// Judge judges under one set of policies. It is immutable and safe for
// concurrent use.
type Judge struct {
	limits Limits
	slot   func(ctx context.Context, work func() error) error
	kept   func(ctx context.Context, image policy.Image) ([]sigs.Candidate, error)
	every  bool // EveryLookup

	authorities map[string][]*sigs.Authority // by the policy's hash, in the policy's order
	generations map[string]string            // by the policy's hash
}

// New compiles the policies' authorities. An error means that a policy demands
// what its trust root cannot give.
func New(c Config) (*Judge, error) {
	j := &Judge{
		limits:      c.Limits,
		slot:        c.Slot,
		kept:        c.Kept,
		every:       c.EveryLookup,
		authorities: map[string][]*sigs.Authority{},
		generations: map[string]string{},
	}

	for _, p := range c.Policies {
		if j.authorities[p.Hash] != nil { // two policies that say the same
			continue
		}
		for _, a := range p.Authorities {
			authority, err := sigs.NewAuthority(a, attestedBy(p, a.Name), c.Trust)
			if err != nil {
				return nil, fmt.Errorf("%s: policy %q, authority %q: %w", p.Where, p.Name, a.Name, err)
			}
			j.authorities[p.Hash] = append(j.authorities[p.Hash], authority)

			if generation := c.Trust.Generation(a); generation != "" {
				j.generations[p.Hash] += "|" + generation
			}
		}
	}
	return j, nil
}

// attestedBy are the predicate types that count under p when authority signs them.
func attestedBy(p *policy.Policy, authority string) []string {
	var types []string
	for _, a := range p.Attestations {
		if slices.Contains(a.Authorities, authority) {
			types = append(types, a.Type)
		}
	}
	return types
}

// Generation identifies the roots and keys that p is judged with; empty when
// the policy itself says all there is. A judgement is good for one generation.
func (j *Judge) Generation(p *policy.Policy) string { return j.generations[p.Hash] }

// Judgement is what the signatures of one image come to under one policy. The
// zero value denies.
type Judgement struct {
	Allowed  bool
	Signer   string          // whose signatures made the image count
	Reasons  []reason.Reason // why not; empty when allowed
	Findings []Finding       // the authorities' in the policy's order, then the attestations'

	// Evidence is what counted, to be kept; empty when it was Stale.
	Evidence []sigs.Candidate
	// Ends is when the first certificate of what counted ends; zero: never.
	Ends time.Time
	// Stale means that kept signatures were verified, because the registry could
	// not be asked.
	Stale bool
	// NothingFound means that there was nothing at all: a signature may follow.
	NothingFound bool
}

// Place is where the signatures of an image are kept: beside it, or in a
// repository of their own.
type Place struct {
	Registry   Registry
	Repository policy.Repository

	// Mirrors are the registries behind Registry, where there are several. One of
	// them may have signatures that another lacks, or hide them: they are looked for
	// in each, in this order, until the policy is satisfied.
	Mirrors []Registry
}

// each are the registries in which signatures are looked for.
func (p Place) each() []Registry {
	if len(p.Mirrors) > 0 {
		return p.Mirrors
	}
	return []Registry{p.Registry}
}

// Image judges image, which is named by digest, by its own signatures under p.
// It ends as soon as p is satisfied, unless every look-up is to end. A denial needs an answer from every place,
// and every root and key that could have admitted the image.
func (j *Judge) Image(
	parent context.Context,
	p *policy.Policy,
	image policy.Image,
	place Place,
) (Judgement, error) {
	// A third of the time is left for signatures that were kept.
	ctx, cancel := context.WithTimeout(parent, j.limits.Timeout*2/3)
	defer cancel()
	ctx, enough := context.WithCancelCause(ctx)
	defer enough(nil)

	t := j.newTally(p, image)
	s := &search{
		limits:       j.limits,
		place:        place,
		image:        image.Digest,
		attestations: wantsAttestations(p),
		withheld:     map[Registry]error{},
		tally:        t,
		found: func(c sigs.Candidate, r *sigs.Reading) {
			if t.examine(ctx, c, r) && !j.every {
				enough(oci.ErrEnough) // the other look-ups need not end
			}
		},
	}
	s.runEach(ctx)

	if t.satisfied() {
		allowed := t.allowed()
		allowed.Evidence = t.evidence
		return allowed, nil
	}

	if s.err == nil {
		s.err = ctx.Err()
	}
	for registry, withheld := range s.withheld {
		if s.err == nil {
			s.err = j.unreadable(ctx, image, Place{Registry: registry, Repository: place.Repository}, withheld)
		}
	}
	if s.err != nil {
		if oci.IsUnavailable(s.err) && j.satisfiedByKept(parent, t) {
			allowed := t.allowed()
			allowed.Signer += ", by a signature kept while the registry cannot be asked"
			allowed.Stale = true
			return allowed, nil
		}
		return Judgement{}, fmt.Errorf("look for signatures of %s: %w", image, s.err)
	}
	if err := t.incomplete(); err != nil {
		return Judgement{}, fmt.Errorf("verify %s: %w", image, err)
	}

	return Judgement{
		Reasons:      t.reasons(s.notes),
		Findings:     t.conclusions(),
		NothingFound: t.examined == 0 && !somethingThere(s.notes),
	}, nil
}

// unreadable tells a registry that refuses to show signatures from one that
// refuses everything, as with credentials that have ended: nil when it lets the
// image itself be read. withheld is how it refused the signatures; another registry
// than the image's cannot be told by the image.
func (j *Judge) unreadable(ctx context.Context, image policy.Image, place Place, withheld error) error {
	if place.Repository.Host != image.Host {
		return withheld
	}

	_, err := place.Registry.Manifest(ctx, image, j.limits.ManifestBytes)
	return err
}

// somethingThere reports whether the notes are about something that was found.
func somethingThere(notes []reason.Reason) bool {
	return slices.ContainsFunc(notes, func(n reason.Reason) bool { return n.Code != reason.NotShown })
}

// satisfiedByKept verifies the signatures that were kept, under today's policy
// and keys, when the registry cannot be asked for them.
func (j *Judge) satisfiedByKept(ctx context.Context, t *tally) bool {
	list, err := j.kept(ctx, t.image)
	if err != nil {
		return false
	}
	for _, c := range list {
		if t.examine(ctx, c, nil) {
			return true
		}
	}
	return false
}

// wantsAttestations reports whether anything but signatures counts under p.
func wantsAttestations(p *policy.Policy) bool {
	return len(p.Attestations) > 0 || slices.ContainsFunc(p.Authorities, func(a policy.Authority) bool {
		return slices.ContainsFunc(a.Accept, func(t string) bool { return t != policy.SignaturePredicate })
	})
}
