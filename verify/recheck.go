package verify

import (
	"context"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// recheckAgain is how long a manifest that could not be asked for is served
// without asking again, while it may be.
const recheckAgain = time.Minute

// recheckEvery is how often a digest that memory or state answers is asked for
// upstream; 0: never. A registry that was silent for longer than StaleIfError is
// found out by asking it.
func (g *Gate) recheckEvery() time.Duration {
	every, stale := g.config.Recheck, g.config.StaleIfError
	if stale > 0 && (every <= 0 || stale < every) {
		return stale
	}
	return every
}

// current returns m, which was asked for by digest, while the registry has it. It
// is asked for again when the registry has not had it for some time. What is
// gone, or cannot be asked for, is served for StaleIfError after it was last
// there; then the error says why not.
func (q *question) current(ctx context.Context, m *cachedManifest) (*cachedManifest, error) {
	every := q.recheckEvery()
	if every <= 0 {
		return m, nil
	}
	now := q.config.Now()
	age := now.Sub(time.Unix(m.seen.Load(), 0))
	if age < every && age >= -recheckAgain {
		return m, nil
	}

	mayBeServed := age < q.config.StaleIfError
	if mayBeServed && now.Sub(time.Unix(m.tried.Load(), 0)) < recheckAgain {
		return m, nil
	}
	m.tried.Store(now.Unix())
	err := q.recheck(ctx, m)
	if err != nil && !mayBeServed {
		return nil, err
	}
	return m, nil
}

// recheck asks the registry for m, once for all questions that do so meanwhile.
func (q *question) recheck(ctx context.Context, m *cachedManifest) error {
	registry, err := q.registry(q.repo)
	if err != nil {
		return err
	}
	if err := q.exhausted(q.client); err != nil {
		return err
	}

	image := q.repo.At(m.Digest)
	_, err = coalesce(ctx, q, "recheck|"+imageKey(q.repo, m.Digest), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.askAgain(ctx, registry, image)
	})
	if err == nil {
		m.seen.Store(q.config.Now().Unix())
	}
	return err
}

// askAgain asks registry for image, whose bytes are known.
func (q *question) askAgain(ctx context.Context, registry Registry, image policy.Image) error {
	// A third of the time: what is served all the same has waited long enough.
	ctx, cancel := context.WithTimeout(ctx, q.config.Limits.VerifyTimeout/3)
	defer cancel()
	counting := &countingRegistry{Registry: registry}
	defer q.charge(counting)

	_, err := counting.Manifest(ctx, image, q.config.Limits.ManifestBytes)
	return err
}

// seenAt is when the registry last had m; zero when that is not known.
func (m *cachedManifest) seenAt() time.Time {
	if at := m.seen.Load(); at > 0 {
		return time.Unix(at, 0)
	}
	return time.Time{}
}

// unsaved reports whether the state is far behind what memory knows of when m was
// last seen.
func (q *question) unsaved(m *cachedManifest) bool {
	behind := time.Duration(m.seen.Load()-m.saved.Load()) * time.Second
	return q.recheckEvery() > 0 && behind > q.recheckEvery()/8
}
