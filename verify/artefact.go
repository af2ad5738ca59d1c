package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

func artefactKey(repo policy.Repository, d digest.Digest) string {
	return "artefact|" + imageKey(repo, d)
}

// artefact passes signatures and attestations, which are unsigned themselves,
// for what they are: every blob is read and must be what it is listed as.
// Labels lie, so a refused image's layer under a signature's media type ends
// here. ok is false when m is no such artefact and is judged as an image.
func (q *question) artefact(ctx context.Context, m *remembered) (v Verdict, ok bool, err error) {
	a := m.artefact
	if a == nil || !q.Policies.CouldAllow(q.repo) || len(a.Layers) > q.Limits.Signatures {
		return Verdict{}, false, nil
	}
	v = Verdict{Outcome: Allowed, Image: q.repo, Digest: m.Digest, Policy: "signature artefacts", Signer: "signature artefact"}
	key := artefactKey(q.repo, m.Digest)
	if _, seen := q.Cache.verdicts.Get(key); seen { // a fact about bytes, good under any policy
		v.CacheHit = true
		return v, true, nil
	}
	registry, err := q.registry(q.repo)
	if err != nil {
		return Verdict{}, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, q.Limits.VerifyTimeout)
	defer cancel()
	budget := newBudget(q.Limits.VerdictBytes)
	config, err := q.small(ctx, registry, a.Config.Digest, a.Config.Size, budget)
	if err != nil || config == nil {
		return Verdict{}, false, err
	}
	layers := make([]digest.Digest, len(a.Layers))
	for i, l := range a.Layers {
		layers[i] = l.Digest
	}
	if sigs.CheckConfig(a.Config.MediaType, config, layers) != nil {
		return Verdict{}, false, nil
	}
	for _, l := range a.Layers {
		blob, err := q.small(ctx, registry, l.Digest, l.Size, budget)
		if err != nil || blob == nil {
			return Verdict{}, false, err
		}
		if sigs.CheckLayer(l, blob, a.Subject) != nil {
			return Verdict{}, false, nil
		}
	}
	q.Cache.verdicts.SetWithTTL(key, v, 1, q.TTL)
	return v, true, nil
}

// small fetches one blob of an artefact; nil without an error means that it is
// missing or too large to be a signature.
func (q *question) small(ctx context.Context, registry Registry, d digest.Digest, size int64, budget *budget) ([]byte, error) {
	if CheckDigest(d) != nil || size < 0 || size > q.Limits.PayloadBytes || !budget.take(size) {
		return nil, nil
	}
	start := time.Now()
	b, err := registry.Blob(ctx, q.repo, d, max(size, 1))
	q.waited += time.Since(start)
	if IsNotFound(err) || errors.Is(err, ErrTooLarge) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of a signature artefact: %w", d, err)
	}
	return b, nil
}
