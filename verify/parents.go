package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
)

const (
	maxParents = 32 // tried for one part
	maxAsked   = 96 // tried for one question, however they are nested
	maxNesting = 3  // an index may stand inside an index inside an index
)

var errTooManyParents = errors.New("too many remembered parents to ask")

// byParents asks the remembered parents of a part, as of now. Any allow
// admits; else what could not be told is an error; else the last denial, or an
// unknown part when nothing lists it. With cachedOnly it asks only parents
// whose answer costs nothing.
func (q *question) byParents(ctx context.Context, kind partKind, d digest.Digest, depth int, cachedOnly bool) (Verdict, error) {
	unknown := Verdict{Image: q.repo, Digest: d, Unknown: true, Reasons: []Reason{{Reason: "unknown_part"}}}
	if depth > maxNesting {
		return unknown, nil
	}
	parents, err := q.Store.parents(q.repo, kind, d)
	if err != nil {
		return Verdict{}, fmt.Errorf("read state: %w", err)
	}
	q.cachedFirst(parents)
	result := unknown
	var couldNotTell error
	for i, parent := range parents {
		if cachedOnly && !q.cachedAllow(parent) {
			break
		}
		if !cachedOnly {
			if q.asked++; i == maxParents || q.asked > maxAsked {
				couldNotTell = errTooManyParents
				break
			}
		}
		v, err := q.byParent(ctx, kind, d, parent, depth)
		switch {
		case err != nil:
			couldNotTell = fmt.Errorf("ask parent %s: %w", parent, err)
		case v.Outcome == Allowed:
			return v, nil
		case v.Admitted():
			result = v
		case !v.Unknown && !result.Admitted():
			result = v
		}
	}
	if couldNotTell != nil && !result.Admitted() {
		return Verdict{}, couldNotTell
	}
	return result, nil
}

// byParent checks that parent's own bytes list d with the right type, then
// asks for the parent's verdict.
func (q *question) byParent(ctx context.Context, kind partKind, d, parent digest.Digest, depth int) (Verdict, error) {
	unknown := Verdict{Image: q.repo, Digest: d, Unknown: true}
	if CheckDigest(parent) != nil {
		return unknown, nil // a poisoned store names no manifest
	}
	m, err := q.load(ctx, parent)
	if IsNotFound(err) || errors.Is(err, ErrManifest) {
		return unknown, nil
	}
	if err != nil {
		return Verdict{}, err
	}
	listed := m.Blobs
	if kind == partManifest {
		listed = m.Manifests
	}
	if !slices.Contains(listed, d) {
		return unknown, nil
	}
	v, err := q.admit(ctx, m, depth+1)
	if err != nil {
		return Verdict{}, err
	}
	if kind == partManifest && v.ownChildren {
		return unknown, nil
	}
	v.Digest = d
	if v.Admitted() {
		v.Signer = "part of " + parent.String()
	} else {
		v.Reasons = append([]Reason{{Reason: "it is part of " + parent.String() + ", which is refused"}}, v.Reasons...)
	}
	return v, nil
}

func (q *question) cachedFirst(parents []digest.Digest) {
	slices.SortStableFunc(parents, func(a, b digest.Digest) int {
		ca, cb := q.cachedAllow(a), q.cachedAllow(b)
		switch {
		case ca == cb:
			return 0
		case ca:
			return -1
		}
		return 1
	})
}

// cachedAllow reports whether asking parent will be an allow without a fetch.
func (q *question) cachedAllow(parent digest.Digest) bool {
	p := q.policyFor(parent)
	if p.Static == policy.Allow {
		return true
	}
	if v, ok := q.cached(parent, p); ok {
		return v.Outcome == Allowed
	}
	_, ok := q.Cache.verdicts.Get(artefactKey(q.repo, parent))
	return ok
}

// knownManifest reports whether d is known to be a manifest of repo.
func (q *question) knownManifest(d digest.Digest) (bool, error) {
	if _, ok := q.Cache.manifests.Get(imageKey(q.repo, d)); ok {
		return true, nil
	}
	parents, err := q.Store.parents(q.repo, partManifest, d)
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	return len(parents) > 0, nil
}

// remember puts what an admitted manifest lists on disk, before its first byte
// is sent, with the signatures that made it count.
func (q *question) remember(m *remembered, v Verdict) error {
	if m.learned.Load() && v.signed == nil {
		return nil
	}
	if err := q.Store.learn(q.repo, m.Manifest, m.Structure, v.signed); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	m.learned.Store(true)
	return nil
}
