package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
)

const (
	maxParents = 32  // that are not in memory, tried for one part
	maxAsked   = 256 // looked at for one question, however they are nested
	maxNesting = 3   // an index may stand inside an index inside an index
)

// rewriteAfter is how many seconds facts on disk are left alone at least.
const rewriteAfter = 60

var errTooManyParents = errors.New("too many remembered parents to ask")

// byParents asks the remembered parents of a part, as of now. Any allow
// admits; else what could not be told is an error; else the last denial, or an
// unknown part when nothing lists it. With cachedOnly it asks only parents
// whose answer costs nothing.
func (q *question) byParents(
	ctx context.Context,
	kind partKind,
	d digest.Digest,
	depth int,
	cachedOnly bool,
) (judgement, error) {
	unknown := judgement{Verdict: Verdict{
		Image:   q.repo,
		Digest:  d,
		Unknown: true,
		Reasons: []Reason{{Code: reason.UnknownPart, Text: "unknown_part"}},
	}}
	if depth > maxNesting {
		return unknown, nil
	}
	parents, err := q.config.Store.parents(q.repo, kind, d)
	if err != nil {
		return judgement{}, fmt.Errorf("read state: %w", err)
	}
	result := unknown
	var couldNotTell error
	tried := 0
	for _, parent := range q.cheapestFirst(parents) {
		if cachedOnly && parent.cost != costsNothing {
			break
		}
		if ctx.Err() != nil {
			return judgement{}, fmt.Errorf("ask parents of %s: %w", d, ctx.Err())
		}
		if parent.cost != costsNothing {
			if parent.cost == costsFetching {
				tried++
			}
			if q.asked++; tried > maxParents || q.asked > maxAsked {
				couldNotTell = errTooManyParents
				continue // those refused in memory can still say why
			}
		}
		v, err := q.byParent(ctx, kind, d, parent.digest, depth)
		switch {
		case err != nil:
			couldNotTell = fmt.Errorf("ask parent %s: %w", parent.digest, err)
		case v.Outcome == Allowed:
			return v, nil
		case v.Admitted():
			result = v
		case !v.Unknown && !result.Admitted():
			result = v
		}
	}
	if couldNotTell != nil && !result.Admitted() {
		return judgement{}, couldNotTell
	}
	return result, nil
}

// byParent checks that parent's own bytes list d with the right type, then
// asks for the parent's verdict.
func (q *question) byParent(ctx context.Context, kind partKind, d, parent digest.Digest, depth int) (judgement, error) {
	unknown := judgement{Verdict: Verdict{Image: q.repo, Digest: d, Unknown: true}}
	if oci.CheckDigest(parent) != nil {
		return unknown, nil // a poisoned store names no manifest
	}
	m, err := q.load(ctx, parent)
	if oci.IsNotFound(err) || errors.Is(err, oci.ErrManifest) {
		return unknown, nil
	}
	if err != nil {
		return judgement{}, unverified(err)
	}
	listed := m.Blobs
	if kind == partManifest {
		listed = m.Manifests
	}
	at := slices.Index(listed, d)
	if at < 0 {
		return unknown, nil
	}
	v, err := q.admit(ctx, m, depth+1)
	if err != nil {
		return judgement{}, err
	}
	if kind == partManifest && v.ownChildren {
		return unknown, nil
	}
	v.Digest, v.Parent = d, parent
	if kind == partBlob {
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
	case q.knownArtefact(parent):
		return costsNothing
	case ok:
		return refused
	}
	return costsFetching
}

// knownManifest reports whether d is known to be a manifest of repo.
func (q *question) knownManifest(d digest.Digest) (bool, error) {
	if _, ok := q.config.Cache.manifests.Get(imageKey(q.repo, d)); ok {
		return true, nil
	}
	parents, err := q.config.Store.parents(q.repo, partManifest, d)
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	return len(parents) > 0, nil
}

// remember puts what an admitted manifest lists on disk, before its first byte
// is sent, with the signatures that made it count. What is on disk already is
// not written again, until the store has begun to forget it.
func (q *question) remember(m *remembered, v judgement) error {
	if m.learned.Load() == q.config.Store.epoch() && v.signed == nil {
		return nil
	}
	epoch, pushedOut, err := q.config.Store.learn(q.repo, m.Manifest, m.Structure, v.signed)
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	m.learned.Store(epoch)
	m.written.Store(q.config.Now().Unix())
	// the next pull of these writes them again, but images that share a layer do not do so in turn
	for _, d := range pushedOut {
		if other, ok := q.config.Cache.manifests.Get(
			imageKey(q.repo, d),
		); ok &&
			q.config.Now().Unix()-other.written.Load() > rewriteAfter {
			other.learned.Store(0)
		}
	}
	return nil
}
