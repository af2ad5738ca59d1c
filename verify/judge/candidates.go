package judge

import (
	"cmp"
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
	"github.com/pullgate/pullgate/verify/sigs"
)

// What a place holds may be more than is examined, and clients append: after a
// rotation of keys, or where every build attests, what counts is the last of
// many. So what is found first, newest first, is examined at once up to half of
// the limit. The other half is for what names a trusted signer, however late it
// is found; what is left of it is for the rest, newest first.

const (
	// hintsPerSignature is how many bundles are fetched for each that may be
	// examined: only the bundle itself says who made it.
	hintsPerSignature = 4
	// maxOverPayload bounds the signatures over payloads that were fetched for
	// another signature: each costs its verification alone.
	maxOverPayload = 1024
)

// held is a candidate that is examined at last, if the limit is not reached.
type held struct {
	likelihood sigs.Likelihood
	at         position
	examine    func(context.Context) error
}

// position is a candidate's in its place: of its manifest in the list, and of
// its layer in the manifest, both counted from the newest.
type position struct{ manifest, layer int }

func (p position) compare(other position) int {
	return cmp.Or(cmp.Compare(p.manifest, other.manifest), cmp.Compare(p.layer, other.layer))
}

// take reports whether one more candidate may be examined, and counts it.
func (s *source) take() bool { return s.candidates.Add(-1) >= 0 }

// takeAtOnce is take as long as half of the limit is left.
func (s *source) takeAtOnce() bool {
	for {
		left := s.candidates.Load()
		if left <= int64(s.limits.Signatures/2) {
			return false
		}
		if s.candidates.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

func (s *source) hold(h held) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.held = append(s.held, h)
}

// examineHeld examines what was held, the most likely and the newest first, as
// far as the limit allows.
func (s *source) examineHeld(ctx context.Context) error {
	slices.SortFunc(s.held, func(a, b held) int {
		return cmp.Or(cmp.Compare(b.likelihood, a.likelihood), a.at.compare(b.at))
	})

	var all errgroup.Group
	all.SetLimit(fetchesPerSource)
	for _, h := range s.held {
		if !s.take() {
			s.tooMany()
			break
		}
		all.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return Guard(func() error { return h.examine(ctx) })
		})
	}
	return all.Wait()
}

// tooMany notes that not every candidate of this place was examined.
func (s *source) tooMany() {
	s.note(
		reason.Limit,
		"%s holds more than %d signatures; the rest was not examined (limits.signatures)",
		s.where,
		s.limits.Signatures,
	)
}

// payload is one blob with the layers that list it: each is a signature over it.
type payload struct {
	oci.Descriptor
	kind        sigs.Kind
	at          position
	likelihood  sigs.Likelihood     // of the likeliest signature, once they are ranked
	annotations []map[string]string // of each layer, the newest first; not empty
}

// payloads groups the layers of a manifest that can count by what they list, the
// newest first. The manifest is the at-th of its list, from the newest.
func (s *source) payloads(m *listing, at int, only sigs.Kind) []*payload {
	type listed struct {
		kind   sigs.Kind
		digest digest.Digest
		size   int64 // a layer that lies about it spoils no other
	}
	var list []*payload
	known := map[listed]*payload{}
	for i, l := range slices.Backward(m.Layers) {
		kind := sigs.KindOf(l.MediaType)
		if kind == 0 || only != 0 && kind != only || kind == sigs.Envelope && !s.attestations {
			continue
		}

		key := listed{kind, l.Digest, l.Size}
		p := known[key]
		if p == nil {
			p = &payload{Descriptor: l, kind: kind, at: position{at, len(m.Layers) - i}}
			known[key], list = p, append(list, p)
		}
		if kind != sigs.Bundle || len(p.annotations) == 0 { // a bundle has all its evidence in itself
			p.annotations = append(p.annotations, l.Annotations)
		}
	}
	return list
}

// offer examines what lists p, now or at last.
func (s *source) offer(ctx context.Context, p *payload) error {
	if p.kind == sigs.Bundle {
		return s.offerBundle(ctx, p)
	}
	atOnce := s.takeAtOnce()
	if !atOnce || len(p.annotations) > maxOverPayload {
		if err := s.rank(ctx, p); err != nil {
			return err
		}
	}

	if atOnce || p.likelihood == sigs.Likely && s.take() {
		return s.examine(ctx, p)
	}
	s.hold(held{p.likelihood, p.at, func(ctx context.Context) error { return s.examine(ctx, p) }})
	return nil
}

// rank puts the likeliest of p's layers first, by the certificates in their
// annotations.
func (s *source) rank(ctx context.Context, p *payload) error {
	return s.tally.judge.slot(ctx, func() error {
		type ranked struct {
			annotations map[string]string
			likelihood  sigs.Likelihood
		}
		list := make([]ranked, len(p.annotations))
		for i, annotations := range p.annotations {
			list[i] = ranked{annotations, s.tally.layerLikelihood(annotations)}
		}

		slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Compare(b.likelihood, a.likelihood) })
		p.likelihood = list[0].likelihood
		for i, one := range list {
			p.annotations[i] = one.annotations
		}
		return nil
	})
}

// examine fetches a payload and hands each signature over it to found.
func (s *source) examine(ctx context.Context, p *payload) error {
	content, ok, err := s.fetch(ctx, p.Descriptor, p.kind)
	if err != nil || !ok {
		return err
	}

	for i, annotations := range p.annotations {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if i > 0 && (s.overPayload.Add(-1) < 0 || !s.hashed.Take(int64(len(content)))) {
			s.note(
				reason.Limit,
				"%s holds more than %d signatures over one payload; the rest was not examined",
				s.where,
				maxOverPayload,
			)
			break
		}
		s.found(s.candidate(p, content, annotations), nil)
	}
	return nil
}

// offerBundle fetches a bundle and examines it, now or at last.
func (s *source) offerBundle(ctx context.Context, p *payload) error {
	if s.bundles.Add(-1) < 0 {
		s.tooMany()
		return nil
	}
	content, ok, err := s.fetch(ctx, p.Descriptor, p.kind)
	if err != nil || !ok {
		return err
	}

	c := s.candidate(p, content, p.annotations[0])
	if s.takeAtOnce() {
		s.found(c, nil)
		return nil
	}

	r, err := s.tally.read(ctx, c)
	if err != nil || r == nil {
		return err
	}
	likelihood := s.tally.likelihood(r)
	if likelihood == sigs.Never || likelihood == sigs.Likely && s.take() {
		s.found(c, r) // Never costs nothing to refuse
		return nil
	}
	s.hold(held{likelihood, p.at, func(context.Context) error { s.found(c, r); return nil }})
	return nil
}

func (s *source) candidate(p *payload, content []byte, annotations map[string]string) sigs.Candidate {
	return sigs.Candidate{
		Kind:        p.kind,
		Source:      s.where,
		Payload:     content,
		Annotations: annotations,
	}
}
