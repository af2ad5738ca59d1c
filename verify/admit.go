package verify

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/judge"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/reason"
)

// noSignatureTTL is short: an image is often pulled just before it is signed.
const noSignatureTTL = 5 * time.Second

// manifest resolves ref and decides about the bytes it stands for.
func (q *question) manifest(ctx context.Context, ref policy.Reference) (oci.Manifest, judgement, error) {
	if !q.CouldAllow(q.repo, q.client) { // nothing of it can be admitted: the upstream need not be asked
		return oci.Manifest{}, q.refusedUnseen(ref), nil
	}

	m, err := q.resolve(ctx, ref)
	if err != nil {
		return oci.Manifest{}, judgement{}, err
	}
	if m.Kind == oci.Index && !m.Platforms && !m.Inline && isFallbackTag(ref.Tag) && q.opens() {
		return m.Manifest, q.referrersIndex(m), nil
	}

	q.tag, q.tagged = ref.Tag, m.Digest
	v, err := q.admit(ctx, m, 0)
	if err != nil {
		return oci.Manifest{}, judgement{}, err
	}
	if v.Admitted() {
		err = q.remember(ctx, m, v)
	} else {
		err = q.rememberDenied(ctx, m, v)
	}
	if err != nil {
		return oci.Manifest{}, judgement{}, err
	}
	return m.Manifest, v, nil
}

// refusedUnseen is the denial of whatever a repository holds.
func (q *question) refusedUnseen(ref policy.Reference) judgement {
	p := q.policyFor(ref.Digest)
	v := q.verdictOf(p, ref.Digest)
	v.Tag = ref.Tag
	v.Reasons = []Reason{deniedBecause(p)}
	return judgement{Verdict: v}
}

// referrersIndex decides about the index under a digest's referrers tag. It is
// only a list of names: its entries are judged when they are asked for, and it
// is never learnt, so it admits none of them.
func (q *question) referrersIndex(m *cachedManifest) judgement {
	p := q.policyOf(m)
	if v, ok := q.static(p, m.Digest); ok {
		if v, _ := q.underMode(p, m.Digest, v, nil); !v.Admitted() {
			return v
		}
	}
	return judgement{Verdict: Verdict{
		Outcome: Allowed,
		Image:   q.repo,
		Digest:  m.Digest,
		Signer:  SignerReferrersIndex,
	}}
}

// isFallbackTag reports whether tag is the referrers tag of a digest
// (distribution spec, "Referrers Tag Schema").
func isFallbackTag(tag string) bool {
	algorithm, hex, ok := strings.Cut(tag, "-")
	if !ok || algorithm != "sha256" && algorithm != "sha512" || len(hex) != 64 {
		return false
	}
	return strings.Trim(hex, "0123456789abcdef") == ""
}

// blob decides about d, asked for as a blob. A digest that is known to be a
// manifest's is judged as that manifest.
func (q *question) blob(ctx context.Context, d digest.Digest) (oci.Manifest, judgement, error) {
	if v, ok, err := q.deniedBlob(ctx, d); ok || err != nil {
		return oci.Manifest{}, v, err
	}

	p := q.policyFor(d)
	m, v, err := q.asPart(ctx, d, p)
	if m != nil {
		v, err = q.admit(ctx, m, 0)
		return m.Manifest, v, err
	}

	v, err = q.underMode(p, d, v, err)
	return oci.Manifest{}, v, err
}

// asPart decides about the blob d as a part of admitted manifests. Where d is a
// manifest itself it returns that instead, which is still to be judged.
func (q *question) asPart(ctx context.Context, d digest.Digest, p *policy.Policy) (*cachedManifest, judgement, error) {
	if v, ok := q.static(p, d); ok {
		return nil, v, nil
	}

	isManifest, err := q.knownManifest(ctx, d)
	if err != nil {
		return nil, judgement{}, err
	}
	var notFound error
	if isManifest {
		m, err := q.resolve(ctx, policy.Reference{Digest: d})
		if !oci.IsNotFound(err) {
			return m, judgement{}, err
		}
		notFound = err // an index may call a manifest what another lists as a blob
	}

	v, err := q.byParents(ctx, part{facts.PartBlob, d, -1}) // a blob's own manifest is no nesting
	if err != nil || v.Admitted() {
		return nil, v, err
	}
	if notFound != nil {
		return nil, judgement{}, notFound
	}
	if v.Unknown && q.toldManifest(ctx, d) {
		m, err := q.resolve(ctx, policy.Reference{Digest: d})
		if !oci.IsNotFound(err) {
			return m, judgement{}, err
		}
	}
	denied := judgement{Verdict: q.verdictOf(p, d), final: v.final}
	denied.Parent, denied.Unknown, denied.Reasons = v.Parent, v.Unknown, v.Reasons
	return nil, denied, nil
}

// admit decides about one manifest, under the mode of the policy that matches it.
// A written denial of what it is part of comes first.
func (q *question) admit(ctx context.Context, m *cachedManifest, depth int) (judgement, error) {
	if v, ok, err := q.deniedManifest(ctx, m, depth); ok || err != nil {
		return v, err
	}

	p := q.policyOf(m)
	v, err := q.decide(ctx, m, p, depth)
	return q.underMode(p, m.Digest, v, err)
}

// decide asks whether p allows a manifest: by a static decision, by its own
// signature, as a signature artifact, or as a part of an admitted index. What
// costs nothing is asked first.
func (q *question) decide(ctx context.Context, m *cachedManifest, p *policy.Policy, depth int) (judgement, error) {
	if v, ok := q.decidedAlready(m, p); ok {
		return v, nil
	}

	asManifest := part{facts.PartManifest, m.Digest, depth}
	askParents := !p.OwnChildren && depth < maxNesting
	if askParents { // an index just admitted costs nothing to ask
		if v, ok := q.byFreeParents(ctx, asManifest); ok {
			return v, nil
		}
	}

	own, ownErr := q.byItself(ctx, m, p)
	if ownErr == nil && own.Outcome == Allowed {
		return own, nil
	}

	if askParents {
		v, err := q.byParents(ctx, asManifest)
		switch {
		case err != nil && ownErr == nil:
			ownErr = err
		case err == nil && (v.Outcome == Allowed || v.Admitted() && q.warns(p)):
			return v, nil
		case err == nil:
			own.Parent = v.Parent // which is refused, too
			own.tooDeep = v.tooDeep
		}
	} else if !p.OwnChildren && ownErr == nil {
		own.tooDeep, ownErr = q.nestedFurther(ctx, m.Digest)
	}
	if ownErr != nil {
		return judgement{}, ownErr
	}
	if own.tooDeep {
		own.Reasons = append(slices.Clip(own.Reasons), tooDeep())
	}
	return own, nil
}

// byItself judges a manifest as a signature artifact, or by its own signatures.
func (q *question) byItself(ctx context.Context, m *cachedManifest, p *policy.Policy) (judgement, error) {
	v, ok, artifactErr := q.artifact(ctx, m)
	if ok {
		return v, nil
	}

	own, err := q.own(ctx, m, p)
	own.ownChildren = p.OwnChildren
	if err == nil && own.Outcome != Allowed {
		err = artifactErr // what might have passed as an artifact is not denied as an image
	}
	return own, err
}

// decidedAlready is what p says of a manifest without looking any further: a
// static decision, or an allow that memory has.
func (q *question) decidedAlready(m *cachedManifest, p *policy.Policy) (v judgement, ok bool) {
	v, ok = q.static(p, m.Digest)
	if !ok {
		v, ok = q.cached(m.Digest, p)
		ok = ok && v.Outcome == Allowed
	}
	v.ownChildren = p.OwnChildren
	return v, ok
}

// static answers a policy that needs no verification. ok is false when the
// signatures, or an admitted parent, may still decide.
func (q *question) static(p *policy.Policy, d digest.Digest) (v judgement, ok bool) {
	v = judgement{Verdict: q.verdictOf(p, d), final: true}
	switch p.Static {
	case policy.Allow:
		if !p.Expires.IsZero() && !q.config.Now().Before(p.Expires) {
			v.Reasons = []Reason{deniedBecause(p)}
			v.final = false
			return v, true
		}
		v.Outcome, v.Signer = Allowed, "static: allow"
		return v, true
	case policy.Deny:
		if len(p.Digests) > 0 { // it names this very digest
			v.Reasons = []Reason{deniedBecause(p)}
			return v, true
		}
	}
	return judgement{}, false
}

// deniedBecause is the reason of a static deny, and of a static allow that has
// ended.
func deniedBecause(p *policy.Policy) Reason {
	switch {
	case p.Where.IsZero():
		return Reason{Code: reason.NoPolicy, Text: "no policy matches it, and defaultAction is not allow"}
	case len(p.Digests) > 0:
		return Reason{Code: reason.StaticDeny, Text: "this digest is denied"}
	case p.Static == policy.Allow:
		return Reason{
			Code: reason.Expired,
			Text: "the exemption ended on " + p.Expires.AddDate(0, 0, -1).Format(time.DateOnly),
		}
	case p.Name == policy.CanaryName:
		return Reason{
			Code: reason.Canary,
			Text: "it is the canary, which is always refused: this node asks the gate",
		}
	}
	return Reason{Code: reason.StaticDeny, Text: "this repository is denied"}
}

// policyFor is the policy that decides about d, as of now: a warn that has
// expired enforces.
func (q *question) policyFor(d digest.Digest) *policy.Policy { return q.policyForEither(d, d) }

// policyOf is policyFor for bytes at hand, whichever of their digests a policy
// names.
func (q *question) policyOf(m *cachedManifest) *policy.Policy {
	return q.policyForEither(m.Digest, m.alias)
}

func (q *question) policyForEither(d, alias digest.Digest) *policy.Policy {
	p := q.config.Policies.ForEither(q.repo, d.String(), alias.String(), q.client)
	if p.Mode == policy.Warn && !p.Expires.IsZero() && !q.config.Now().Before(p.Expires) {
		enforced := *p
		enforced.Mode = policy.Enforce
		return &enforced
	}
	return p
}

// cached is the verdict by d's own signatures, if memory still has it.
func (q *question) cached(d digest.Digest, p *policy.Policy) (judgement, bool) {
	v, ok := q.config.Cache.verdicts.Get(q.verdictKey(q.repo, d, p))
	if !ok || !q.config.Now().Before(v.until) {
		return judgement{}, false
	}
	v.CacheHit = true
	return v, true
}

// own is the verdict by the manifest's own signatures: from the cache, or made
// once for all who ask meanwhile, on the gate's context and not on a client's.
func (q *question) own(ctx context.Context, m *cachedManifest, p *policy.Policy) (judgement, error) {
	if p.Static == policy.Deny {
		v := q.verdictOf(p, m.Digest)
		v.Reasons = []Reason{deniedBecause(p)}
		return judgement{Verdict: v}, nil
	}
	if v, ok := q.cached(m.Digest, p); ok {
		return v, nil
	}
	return q.judging(func() (judgement, error) { return q.judgeOnce(ctx, m, p) })
}

// judgeOnce makes a verdict once for all who ask meanwhile.
func (q *question) judgeOnce(ctx context.Context, m *cachedManifest, p *policy.Policy) (judgement, error) {
	key := q.verdictKey(q.repo, m.Digest, p)
	return coalesce(ctx, q, key, func(ctx context.Context) (judgement, error) {
		done, err := q.enter(ctx, q.repo.Host)
		if err != nil {
			return judgement{}, err
		}
		defer done()

		var ttl time.Duration
		v, err := q.observe.verdict(ctx, p, func(ctx context.Context) (v judgement, err error) {
			v, ttl, err = q.bySignatures(ctx, m.Digest, p)
			return v, err
		})
		if err != nil {
			return judgement{}, err
		}

		kept := v
		kept.signed = nil // only the question that made the verdict writes it
		q.config.Cache.verdicts.SetWithTTL(key, kept, 1, ttl)
		return v, nil
	})
}

// bySignatures judges d by its own signatures. ttl is how long memory may hold
// the verdict; it may have to be made again earlier, from v.until on.
func (q *question) bySignatures(
	ctx context.Context,
	d digest.Digest,
	p *policy.Policy,
) (v judgement, ttl time.Duration, err error) {
	if v, ttl, ok := q.byEvidence(ctx, d, p); ok {
		return v, ttl, nil
	}

	place := judge.Place{Repository: q.repo}
	if !p.SignatureRepository.IsZero() {
		place.Repository = p.SignatureRepository
		if place.Repository.Host == q.repo.Host { // no other registry is shown this client's credentials
			place.Repository.Scope = q.repo.Scope
		}
	}
	registry, err := q.registry(place.Repository)
	if err != nil {
		return judgement{}, 0, err
	}
	counting := &countingRegistry{Registry: registry}
	defer q.chargeVerdict(counting)
	place.Registry = counting
	place.Mirrors = q.mirrors(place.Repository, counting)

	found, err := q.judge.Image(ctx, p, q.repo.At(d), place)
	if err != nil {
		return judgement{}, 0, unverified(err)
	}

	v.Verdict = q.verdictOf(p, d)
	v.Signer, v.Reasons, v.Findings = found.Signer, found.Reasons, found.Findings
	now := q.config.Now()
	ttl = q.config.DenyTTL
	switch {
	case found.Allowed && found.Stale:
		v.Outcome = Allowed
	case found.Allowed:
		v.Outcome, ttl = Allowed, q.config.TTL
		v.signed = storedEvidence(now, found.Evidence)
	case found.NothingFound:
		ttl = min(ttl, noSignatureTTL)
	}

	v.until = q.earliest(now.Add(ttl), p, found.Ends)
	return v, ttl, nil
}
