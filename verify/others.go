package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// maxTold bounds the parents, of those that other replicas name, whose evidence is
// looked at before the registry is asked for signatures.
const maxTold = 4

var errFalseParents = errors.New("other replicas are said to know what lists it, and what they name does not")

// Others is what the other replicas of this gate have learned. It is believed no
// more than a registry: digests are hints, evidence is verified. An error means
// that they could not be asked. Implementations are safe for concurrent use.
type Others interface {
	// Parents is as facts.Store has it.
	Parents(ctx context.Context, repo policy.Repository, kind facts.PartKind, d digest.Digest) ([]digest.Digest, error)
	// Indexes is as facts.Store has it.
	Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error)
	// Evidence is what a replica has fetched of d, within the life of a verdict
	// before now; else the zero Evidence.
	Evidence(ctx context.Context, repo policy.Repository, d digest.Digest, now time.Time) (facts.Evidence, error)
	// Complete returns nil when nothing is missing above that a replica had learned
	// before the call. It may take seconds.
	Complete(ctx context.Context) error
	// Doubt says that Parents has named what does not list the part: something may
	// have overwritten what was there.
	Doubt()
}

// byOthers asks the parents of p that other replicas know of, when those that this
// one knows have not admitted it: the image may have been asked for there. known
// are the latter, own and ownErr is what they came to.
func (q *question) byOthers(
	ctx context.Context,
	p part,
	known []parentCost,
	own judgement,
	ownErr error,
) (judgement, error) {
	asked := map[digest.Digest]bool{}
	for _, k := range known {
		asked[k.digest] = true
	}

	told, err := q.byUnasked(ctx, p, asked)
	if err != nil || told.Admitted() {
		return told, err
	}
	if len(asked) == 0 && p.kind == facts.PartBlob {
		if own, ownErr = q.byDescent(ctx, p); ownErr == nil && own.Admitted() {
			return own, nil
		}
	}
	if q.tag == "" { // it is named by digest: a replica may have served what lists it a moment ago
		if err := q.config.Others.Complete(ctx); err != nil {
			return judgement{}, notTold(err)
		}
		late, err := q.byUnasked(ctx, p, asked)
		if err != nil || late.Admitted() {
			return late, err
		}
		if told.Unknown {
			told = late
		}
	}

	if ownErr != nil || !own.Unknown {
		return own, ownErr
	}
	told.tooDeep = told.tooDeep || own.tooDeep
	return told, nil
}

// byUnasked asks the parents of p that other replicas know of and that are not in
// asked, and puts them there. What admits p is remembered here too. A parent that
// does not list p after all makes it an error: what stood there may have been lost.
func (q *question) byUnasked(ctx context.Context, p part, asked map[digest.Digest]bool) (judgement, error) {
	all, err := q.config.Others.Parents(ctx, q.repo, p.kind, p.digest)
	if err != nil {
		return judgement{}, notTold(err)
	}
	more := slices.DeleteFunc(all, func(d digest.Digest) bool { return asked[d] })
	for _, d := range more {
		asked[d] = true
	}

	v, err := q.askParents(ctx, p, q.cheapestFirst(more))
	switch {
	case err != nil:
		return judgement{}, err
	case v.Admitted():
		return v, q.rememberParent(ctx, v.Parent)
	case v.falseParent:
		q.config.Others.Doubt()
		return judgement{}, unverified(errFalseParents)
	}
	return v, nil
}

// notTold is the error of a question that only other replicas could have answered.
func notTold(err error) error { return unverified(fmt.Errorf("ask what other replicas know: %w", err)) }

// toldManifest reports whether another replica knows an index that lists d.
func (q *question) toldManifest(ctx context.Context, d digest.Digest) bool {
	if q.config.Others == nil {
		return false
	}
	parents, err := q.config.Others.Parents(ctx, q.repo, facts.PartManifest, d)
	return err == nil && len(parents) > 0
}

// rememberParent remembers an admitted manifest of which another replica has told,
// so that its parts are known here the next time.
func (q *question) rememberParent(ctx context.Context, d digest.Digest) error {
	m, err := q.load(ctx, d)
	if err != nil {
		return err
	}
	return q.remember(ctx, m, judgement{})
}

// byFreeParents asks those parents of a manifest for whose answer no registry is
// asked.
func (q *question) byFreeParents(ctx context.Context, p part) (v judgement, ok bool) {
	if v, err := q.byCachedParents(ctx, p); err == nil && v.Outcome == Allowed {
		return v, true
	}
	return q.byTold(ctx, p)
}

// byTold asks those parents of a manifest that other replicas know of and whose
// evidence is at hand. What an index admits has no signatures of its own, mostly,
// and the registry need not be asked for them.
func (q *question) byTold(ctx context.Context, p part) (v judgement, ok bool) {
	if q.config.Others == nil {
		return judgement{}, false
	}
	parents, err := q.config.Others.Parents(ctx, q.repo, p.kind, p.digest)
	if err != nil {
		return judgement{}, false // asked again before it is denied
	}

	for _, d := range parents[:min(len(parents), maxTold)] {
		if oci.CheckDigest(d) != nil || !q.recall(ctx, d) {
			continue
		}
		v, err := q.byParent(ctx, p, d)
		if err == nil && v.Outcome == Allowed && q.rememberParent(ctx, d) == nil {
			return v, true
		}
	}
	return judgement{}, false
}

// recall reports whether the manifest d, if it is at hand, is allowed by memory or
// by the evidence of another replica.
func (q *question) recall(ctx context.Context, d digest.Digest) bool {
	m, err := q.known(ctx, d)
	if err != nil || m == nil {
		return false
	}
	p := q.policyOf(m)
	if p.Static != policy.Verify || q.costOf(d) != costsFetching {
		return q.costOf(d) == costsNothing
	}

	key := q.verdictKey(q.repo, m.Digest, p)
	v, err := coalesce(ctx, q, "recall|"+key, func(ctx context.Context) (judgement, error) {
		v, ttl, ok := q.byEvidence(ctx, m.Digest, p)
		if ok {
			q.config.Cache.verdicts.SetWithTTL(key, v, 1, ttl)
			q.config.Cache.verdicts.Wait()
		}
		return v, nil
	})
	return err == nil && v.Outcome == Allowed
}

// byEvidence judges d by signatures that another replica has fetched, and asks no
// registry. They can only allow, and for no longer than they would have there.
func (q *question) byEvidence(
	ctx context.Context,
	d digest.Digest,
	p *policy.Policy,
) (v judgement, ttl time.Duration, ok bool) {
	if q.config.Others == nil || q.config.EveryLookup {
		return judgement{}, 0, false
	}
	now := q.config.Now()
	e, err := q.config.Others.Evidence(ctx, q.repo, d, now)
	if err != nil || len(e.Signatures) == 0 {
		return judgement{}, 0, false
	}

	found := q.judge.ByEvidence(ctx, p, q.repo.At(d), candidates(e.Signatures))
	ttl = e.FetchedAt.Add(q.config.TTL).Sub(now)
	if !found.Allowed || ttl <= 0 || ttl > q.config.TTL {
		return judgement{}, 0, false
	}
	v.Verdict = q.verdictOf(p, d)
	v.Outcome, v.Signer, v.Findings = Allowed, found.Signer, found.Findings
	v.until = q.earliest(now.Add(ttl), p, found.Ends)
	return v, ttl, true
}

// earliest is when a verdict of p ends that would be good until then.
func (q *question) earliest(then time.Time, p *policy.Policy, ends time.Time) time.Time {
	if p.Expires.After(q.config.Now()) && p.Expires.Before(then) {
		then = p.Expires
	}
	if !ends.IsZero() && ends.Before(then) {
		then = ends
	}
	return then
}
