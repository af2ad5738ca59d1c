package verify

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/judge"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/sigs"
)

// artefactKey is where memory keeps whether a manifest is a signature artefact:
// a fact about bytes, good under any policy.
func artefactKey(image string) string { return "artefact|" + image }

// knownArtefact reports whether memory knows d for a signature artefact.
func (q *question) knownArtefact(d digest.Digest) bool {
	v, ok := q.config.Cache.verdicts.Get(artefactKey(imageKey(q.repo, d)))
	return ok && v.Outcome == Allowed && q.couldAllow()
}

// couldAllow reports whether any image of the repository could be admitted:
// lists and artefacts of others are nobody's business.
func (q *question) couldAllow() bool { return q.CouldAllow(q.repo, q.client) }

// artefact passes signatures and attestations, which are unsigned themselves,
// for what they are: every blob is read and must be what it is listed as.
// Labels lie, so a refused image's layer under a signature's media type ends
// here. ok is false when m is no such artefact and is judged as an image. It
// is found out once for everybody who asks, within a verdict's limits, and
// remembered either way.
func (q *question) artefact(ctx context.Context, m *remembered) (v judgement, ok bool, err error) {
	if m.artefact == nil || len(m.artefact.Layers) > q.config.Limits.Signatures || !q.couldAllow() {
		return judgement{}, false, nil
	}
	key := artefactKey(imageKey(q.repo, m.Digest))
	if v, seen := q.config.Cache.verdicts.Get(key); seen {
		v.CacheHit = true
		return v, v.Outcome == Allowed, nil
	}
	if err := q.mayAskUpstream(); err != nil {
		return judgement{}, false, err
	}
	v, err = fly(ctx, q, key, func(ctx context.Context) (judgement, error) {
		done, err := q.enter(ctx, q.repo.Host)
		if err != nil {
			return judgement{}, err
		}
		defer done()
		is, err := q.isArtefact(ctx, m.artefact)
		if err != nil {
			return judgement{}, fmt.Errorf("read signature artefact %s@%s: %w", q.repo, m.Digest, unverified(err))
		}
		v := judgement{Verdict: Verdict{Image: q.repo, Digest: m.Digest, Policy: "signature artefacts"}}
		ttl := q.config.DenyTTL // a blob may have been missing for the moment
		if is {
			v.Outcome, v.Signer, ttl = Allowed, "signature artefact", q.config.TTL
		}
		q.config.Cache.verdicts.SetWithTTL(key, v, 1, ttl)
		return v, nil
	})
	return v, err == nil && v.Outcome == Allowed, err
}

// isArtefact reads every blob. A missing or oversized one means no; an upstream
// that cannot be asked is an error.
func (q *question) isArtefact(ctx context.Context, a *sigs.Artifact) (bool, error) {
	registry, err := q.registry(q.repo)
	if err != nil {
		return false, err
	}
	budget := judge.NewBudget(q.config.Limits.VerdictBytes)
	config, err := q.small(ctx, registry, a.Config, budget)
	if err != nil || config == nil {
		return false, err
	}
	layers := make([]digest.Digest, len(a.Layers))
	for i, l := range a.Layers {
		layers[i] = l.Digest
	}
	if sigs.CheckConfig(a.Config.MediaType, config, layers) != nil {
		return false, nil
	}
	for _, l := range a.Layers {
		blob, err := q.small(ctx, registry, l, budget)
		if err != nil || blob == nil {
			return false, err
		}
		if err := q.slot(ctx, func() error { return sigs.CheckLayer(l, blob, a.Subject) }); err != nil {
			return false, ctx.Err() // it is not what it is listed as
		}
	}
	return true, nil
}

// small fetches one blob of an artefact; nil without an error means that it is
// missing, listed as too large to be a signature, or of another size than listed.
func (q *question) small(ctx context.Context, registry Registry, b sigs.Blob, budget *judge.Budget) ([]byte, error) {
	if oci.CheckDigest(b.Digest) != nil || b.Size < 0 || b.Size > q.config.Limits.PayloadBytes || !budget.Take(b.Size) {
		return nil, nil
	}
	content, err := registry.Blob(ctx, q.repo, b.Digest, q.config.Limits.PayloadBytes)
	if oci.IsNotFound(err) || err == nil && int64(len(content)) != b.Size {
		return nil, nil
	}
	return content, err
}
