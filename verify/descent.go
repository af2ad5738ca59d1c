package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
)

const (
	maxDescents = 8    // manifests fetched while one blob is looked for
	maxAtHand   = 1024 // manifests at hand that are looked through for it
)

var errLongDescent = errors.New("too many manifests may list it; the search goes on when it is asked for again")

// byDescent looks for the blob p in the children of the repository's admitted
// indexes. A runtime that has an image's manifests in its own store asks for the
// tag and then for layers: after lost facts nothing else would find them.
func (q *question) byDescent(ctx context.Context, p part) (judgement, error) {
	roots, err := q.indexes(ctx)
	if err != nil {
		return judgement{}, err
	}

	result := q.unknownPart(p)
	result.Reasons = []Reason{{Code: reason.UnknownPart, Text: "unknown_part"}}
	err = q.descend(ctx, p.digest, roots, func(path []*cachedManifest) (bool, error) {
		for i, m := range path {
			v, err := q.admit(ctx, m, len(path)-1-i)
			if err == nil && v.Admitted() {
				err = q.remember(ctx, m, v)
			}
			if err != nil {
				return false, err
			}
		}
		v, err := q.byParent(ctx, p, path[len(path)-1].Digest)
		if err == nil && (v.Admitted() || !v.Unknown) {
			result = v
		}
		return v.Admitted(), err
	})
	if err != nil && !result.Admitted() {
		return judgement{}, err
	}
	return result, nil
}

// indexes lists the admitted indexes of the repository that are remembered, here
// and by other replicas.
func (q *question) indexes(ctx context.Context) ([]digest.Digest, error) {
	own, err := q.config.Store.Indexes(ctx, q.repo)
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if q.config.Others == nil {
		return own, nil
	}

	told, err := q.config.Others.Indexes(ctx, q.repo)
	if err != nil {
		return nil, notTold(err)
	}
	return append(own, told...), nil // each is looked into once
}

// foundFunc is called with a manifest that lists the blob, the last of path, and
// the indexes that have led to it, outermost first.
type foundFunc func(path []*cachedManifest) (enough bool, err error)

// descent is a search for a blob from indexes down.
type descent struct {
	*question
	blob  digest.Digest
	found foundFunc

	seen    map[digest.Digest]bool
	away    []step // that are not at hand
	fetched int
}

// step is a manifest to look into, and the indexes that have led to it.
type step struct {
	digest digest.Digest
	path   []*cachedManifest
}

// descend calls found for the manifests under roots that list the blob d, until
// it says that this is enough: those at hand, then at most maxDescents that are
// fetched at the client's expense. An error means that others may list it, too.
func (q *question) descend(
	ctx context.Context,
	d digest.Digest,
	roots []digest.Digest,
	found foundFunc,
) error {
	s := &descent{
		question: q,
		blob:     d,
		found:    found,
		seen:     map[digest.Digest]bool{},
	}
	for _, root := range roots {
		if enough, err := s.lookAtHand(ctx, step{root, nil}); enough || err != nil {
			return err
		}
	}

	var couldNotTell error
	for len(s.away) > 0 {
		next := s.away[0]
		s.away = s.away[1:]
		if s.fetched++; s.fetched > maxDescents {
			return errLongDescent
		}

		m, err := q.load(ctx, next.digest)
		var quota *QuotaError
		switch {
		case oci.IsNotFound(err), errors.Is(err, oci.ErrManifest):
			continue
		case errors.As(err, &quota), ctx.Err() != nil:
			return err
		case err != nil:
			couldNotTell = unverified(err)
			continue
		}
		if enough, err := s.look(ctx, m, next.path); enough || err != nil {
			return err
		}
	}
	return couldNotTell
}

// lookAtHand looks into a manifest that is at hand, or puts it off.
func (s *descent) lookAtHand(ctx context.Context, next step) (enough bool, err error) {
	if oci.CheckDigest(next.digest) != nil || s.seen[next.digest] || len(s.seen) >= maxAtHand {
		return false, nil
	}
	s.seen[next.digest] = true

	m, err := s.known(ctx, next.digest)
	switch {
	case errors.Is(err, oci.ErrManifest):
		return false, nil
	case err != nil:
		return false, err
	case m == nil:
		s.away = append(s.away, next)
		return false, nil
	}
	return s.look(ctx, m, next.path)
}

// look looks for the blob in m and in what m lists.
func (s *descent) look(ctx context.Context, m *cachedManifest, path []*cachedManifest) (enough bool, err error) {
	path = append(slices.Clip(path), m)
	if slices.Contains(m.Blobs, s.blob) {
		if enough, err := s.found(path); enough || err != nil {
			return enough, err
		}
	}
	if len(path) > maxNesting {
		return false, nil
	}

	for _, child := range m.Manifests {
		if enough, err := s.lookAtHand(ctx, step{child, path}); enough || err != nil {
			return enough, err
		}
	}
	return false, nil
}
