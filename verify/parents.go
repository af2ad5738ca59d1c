package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
)

const (
	maxParents = 32  // that are not in memory, tried for one part
	maxAsked   = 256 // parents that are not in memory, tried for one question at any depth
	maxNesting = 3   // an index may stand inside an index inside an index
)

// rewriteAfter is how many seconds facts on disk are left alone at least.
const rewriteAfter = 60

var errTooManyParents = errors.New("too many remembered parents to ask")

// part is a manifest or a blob that may be admitted by a manifest that lists it.
type part struct {
	kind   facts.PartKind
	digest digest.Digest
	depth  int // of indexes inside indexes that have led here; -1 for a blob
}

// byParents asks the remembered parents of a part, as of now. Any allow
// admits. Otherwise a parent that could not be judged is an error, then the
// last denial counts, and a part that no parent lists is unknown.
func (q *question) byParents(ctx context.Context, p part) (judgement, error) {
	parents, err := q.parents(ctx, p)
	if err != nil {
		return judgement{}, err
	}
	others := q.config.Others != nil && p.depth <= maxNesting
	if len(parents) == 0 && p.kind == facts.PartBlob && !others {
		return q.byDescent(ctx, p)
	}

	v, err := q.askParents(ctx, p, parents)
	if !others || err == nil && v.Admitted() {
		return v, err
	}
	return q.byOthers(ctx, p, parents, v, err)
}

// byCachedParents asks only those parents whose answer costs nothing.
func (q *question) byCachedParents(ctx context.Context, p part) (judgement, error) {
	parents, err := q.parents(ctx, p)
	if err != nil {
		return judgement{}, err
	}

	free := 0
	for free < len(parents) && parents[free].cost == costsNothing {
		free++
	}
	return q.askParents(ctx, p, parents[:free])
}

// parents lists the remembered parents of a part, cheapest first; none where
// indexes are nested too deep.
func (q *question) parents(ctx context.Context, p part) ([]parentCost, error) {
	if p.depth > maxNesting {
		return nil, nil
	}

	parents, err := q.config.Store.Parents(ctx, q.repo, p.kind, p.digest)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return q.cheapestFirst(parents), nil
}

func (q *question) askParents(ctx context.Context, p part, parents []parentCost) (judgement, error) {
	result := q.unknownPart(p)
	result.Reasons = []Reason{{Code: reason.UnknownPart, Text: "unknown_part"}}

	var couldNotTell error
	fetching, further, wrong := 0, false, false
	for _, parent := range parents {
		if ctx.Err() != nil {
			return judgement{}, fmt.Errorf("ask parents of %s: %w", p.digest, ctx.Err())
		}

		if parent.cost == costsFetching {
			fetching++
		}
		if parent.cost != costsNothing {
			q.asked++
			if fetching > maxParents || q.asked > maxAsked {
				couldNotTell = errTooManyParents
				continue
			}
		}

		v, err := q.byParent(ctx, p, parent.digest)
		further = further || v.tooDeep
		wrong = wrong || v.falseParent
		switch {
		case err != nil:
			couldNotTell = fmt.Errorf("ask parent %s: %w", parent.digest, err)
		case v.Outcome == Allowed:
			return v, nil
		case v.Admitted():
			result = v
		case !v.Unknown && !result.Admitted() && !result.final: // a written denial stands, whichever is asked last
			result = v
		}
	}

	if couldNotTell != nil && !result.Admitted() {
		return judgement{}, couldNotTell
	}
	result.tooDeep, result.falseParent = further, wrong
	return result, nil
}

// nestedFurther reports whether an index lists d that is not asked, because
// maxNesting of them have been.
func (q *question) nestedFurther(ctx context.Context, d digest.Digest) (bool, error) {
	parents, err := q.config.Store.Parents(ctx, q.repo, facts.PartManifest, d)
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	return len(parents) > 0, nil
}

func tooDeep() Reason {
	return Reason{
		Code: reason.Limit,
		Text: fmt.Sprintf("it is nested in more than %d indexes, and those further out are not asked", maxNesting),
	}
}

func (q *question) unknownPart(p part) judgement {
	return judgement{Verdict: Verdict{Image: q.repo, Digest: p.digest, Unknown: true}}
}

// notOf is what a manifest says of p that was remembered to list it and does not.
func (q *question) notOf(p part) judgement {
	v := q.unknownPart(p)
	v.falseParent = true
	return v
}

// byParent checks that the parent's own bytes list p under its kind, then asks
// for the parent's verdict.
func (q *question) byParent(ctx context.Context, p part, parent digest.Digest) (judgement, error) {
	if oci.CheckDigest(parent) != nil {
		return q.notOf(p), nil // a poisoned store names no manifest
	}
	m, err := q.load(ctx, parent)
	if oci.IsNotFound(err) || errors.Is(err, oci.ErrManifest) {
		return q.notOf(p), nil
	}
	if err != nil {
		return judgement{}, unverified(err)
	}

	at := slices.Index(listed(m, p.kind), p.digest)
	if at < 0 {
		return q.notOf(p), nil
	}

	v, err := q.admit(ctx, m, p.depth+1)
	if err != nil {
		return judgement{}, err
	}
	if v.signed != nil { // the parent's signatures, which are not the part's
		if err := q.remember(ctx, m, v); err != nil {
			return judgement{}, err
		}
		v.signed = nil
	}
	if p.kind == facts.PartManifest && v.ownChildren {
		return q.unknownPart(p), nil
	}

	v.Digest, v.Parent = p.digest, parent
	if p.kind == facts.PartBlob {
		v.Size = m.Sizes[at]
	}
	if v.Admitted() {
		v.Signer = "part of " + parent.String()
	} else {
		v.Reasons = append([]Reason{{
			Code: reason.ParentRefused,
			Text: "it is part of " + parent.String() + ", which is refused",
		}}, v.Reasons...)
	}
	return v, nil
}

// cost is what asking a parent takes.
type cost int

const (
	costsNothing  cost = iota // memory says that it is allowed
	costsFetching             // memory says nothing
	refused                   // memory says that it is refused: asked last, for its reasons
)

type parentCost struct {
	digest digest.Digest
	cost   cost
}

// cheapestFirst puts parents that memory allows first and those it refuses
// last; among equals the newest stays first.
func (q *question) cheapestFirst(parents []digest.Digest) []parentCost {
	list := make([]parentCost, len(parents))
	for i, d := range parents {
		list[i] = parentCost{d, q.costOf(d)}
	}
	if len(list) > 1 {
		slices.SortStableFunc(list, func(a, b parentCost) int { return int(a.cost) - int(b.cost) })
	}
	return list
}

func (q *question) costOf(parent digest.Digest) cost {
	p := q.policyFor(parent)
	if p.Static == policy.Allow {
		return costsNothing
	}

	v, ok := q.cached(parent, p)
	switch {
	case ok && v.Outcome == Allowed:
		return costsNothing
	case q.knownArtifact(parent):
		return costsNothing
	case ok:
		return refused
	}
	return costsFetching
}

// knownManifest reports whether d is known to be a manifest of the repository.
func (q *question) knownManifest(ctx context.Context, d digest.Digest) (bool, error) {
	if _, ok := q.config.Cache.manifests.Get(imageKey(q.repo, d)); ok {
		return true, nil
	}

	parents, err := q.config.Store.Parents(ctx, q.repo, facts.PartManifest, d)
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	return len(parents) > 0, nil
}

// remember puts what an admitted manifest lists on disk, before its first byte
// is sent, with the signatures that made it count. What is on disk already is
// not written again until the store has begun to forget it.
func (q *question) remember(ctx context.Context, m *cachedManifest, v judgement) error {
	if m.learned.Load() == q.config.Store.Epoch(ctx, q.repo) && v.signed == nil && !q.unsaved(m) {
		return nil
	}

	seen := m.seenAt()
	learned, err := q.config.Store.Learn(ctx, facts.Fact{
		Repository: q.repo,
		Manifest:   m.Manifest,
		Parts:      m.Structure,
		SeenAt:     seen,
		Evidence:   v.signed,
	})
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if !seen.IsZero() {
		m.saved.Store(seen.Unix())
	}
	m.learned.Store(learned.Epoch)
	m.written.Store(q.config.Now().Unix())

	for _, d := range learned.PushedOut {
		q.rewrite(d)
	}
	return nil
}

// rewrite has the next pull of d write its facts again. Facts that are just
// written stay as they are, or else images that share a layer would push out
// each other's in turn.
func (q *question) rewrite(d digest.Digest) {
	m, ok := q.config.Cache.manifests.Get(imageKey(q.repo, d))
	if ok && q.config.Now().Unix()-m.written.Load() > rewriteAfter {
		m.learned.Store(0)
	}
}
