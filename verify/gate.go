// Package verify is the gate: it says whether one manifest or blob of an
// upstream repository may be served, and why not. It decides from the bytes
// it was given and hashed itself, the policies, and the signatures it finds;
// it knows nothing of HTTP answers, and grants nothing from memory alone.
//
// There are three outcomes: a Verdict that admits, a Verdict that denies, and
// an error, which means "could not tell" and must never be served or cached
// as either.
package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
	"github.com/pullgate/pullgate/verify/sigs"
)

// Limits bounds what one verdict may cost. Every field is positive.
type Limits struct {
	ManifestBytes int64 // largest manifest
	Descriptors   int   // most parts one manifest may list
	PayloadBytes  int64 // largest signature payload or bundle
	// all bytes fetched for one verdict; where attestations count, each of the four places may hold
	// PayloadBytes more
	VerdictBytes     int64
	Signatures       int           // candidates examined per source
	VerdictsInFlight int           // verdicts being made at once
	VerifyTimeout    time.Duration // for one verdict, fetching included
	ClientMisses     int           // requests of one client that an upstream must be asked for, per minute
}

// Config is what a Gate is made of. Store and Cache outlive it.
type Config struct {
	Policies *policy.Set
	// roots and keys that the policies name; what is missing is not loaded yet
	Trust    sigs.Trust
	Mode     policy.Mode                        // of the whole gate
	Registry func(host string) (Registry, bool) // by familiar host; false: not configured
	Store    facts.Store
	Cache    *Cache
	Limits   Limits
	TTL      time.Duration // an allow's life in the cache
	DenyTTL  time.Duration // a denial's
	TagTTL   time.Duration // how long a tag is answered without asking upstream

	// StaleIfError is how long after the registry last had them the signatures
	// kept in the Store are verified again instead, while it cannot be asked.
	StaleIfError time.Duration

	Now    func() time.Time     // nil: time.Now
	Tracer trace.TracerProvider // nil: no spans
	Meter  metric.MeterProvider // nil: no metrics
}

// Gate decides under one configuration. It is immutable and safe for
// concurrent use; a reload makes a new one.
type Gate struct {
	Config
	authorities map[string][]*sigs.Authority // by the policy's hash, in the policy's order
	// by the policy's hash: which roots and keys it is judged with; none when the policy says it all
	generations map[string]string
	flights     singleflight.Group
	inFlight    chan struct{}
	perHost     sync.Map // upstream host → chan struct{}: its share of inFlight
	crypto      chan struct{}
	observe     *observer
	quota       *quota
}

// New compiles the policies' authorities.
func New(c Config) (*Gate, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	observe, err := newObserver(c.Tracer, c.Meter)
	if err != nil {
		return nil, err
	}
	g := &Gate{
		observe:     observe,
		quota:       newQuota(c.Limits.ClientMisses),
		Config:      c,
		authorities: map[string][]*sigs.Authority{},
		generations: map[string]string{},
		inFlight:    make(chan struct{}, c.Limits.VerdictsInFlight),
		crypto:      make(chan struct{}, runtime.GOMAXPROCS(0)),
	}
	for _, p := range c.Policies.Policies() {
		if g.authorities[p.Hash] != nil { // two policies that say the same
			continue
		}
		for _, a := range p.Authorities {
			authority, err := sigs.NewAuthority(a, attestedBy(p, a.Name), c.Trust)
			if err != nil {
				return nil, fmt.Errorf("%s: policy %q, authority %q: %w", p.Where, p.Name, a.Name, err)
			}
			g.authorities[p.Hash] = append(g.authorities[p.Hash], authority)
			if generation := c.Trust.Generation(a); generation != "" {
				g.generations[p.Hash] += "|" + generation
			}
		}
	}
	return g, nil
}

// attestedBy are the predicate types that count under p when authority signs them.
func attestedBy(p *policy.Policy, authority string) []string {
	var types []string
	for _, a := range p.Attestations {
		if slices.Contains(a.Authorities, authority) {
			types = append(types, a.Type)
		}
	}
	return types
}

// Manifest resolves image, by tag or digest, once and decides
// about exactly those bytes, within Limits.VerifyTimeout. When the verdict
// admits, every part the manifest lists has been recorded durably. The bytes
// are the caller's to read, not to change. Errors: *UpstreamError, ErrManifest,
// ErrDigest, anything else is "could not tell".
func (g *Gate) Manifest(
	ctx context.Context,
	image policy.Image,
	client policy.Client,
) (oci.Manifest, Verdict, error) {
	q := g.question(image.Repository, client)
	m, v, err := q.manifest(ctx, image.Reference)
	v.Upstream = q.waited
	return m, v, err
}

// Blob decides whether the blob d of repo may be served: as a part of an
// admitted manifest, or, when d is a manifest's digest, as that manifest
// (containerd asks so after a refusal). Then Manifest holds its bytes.
func (g *Gate) Blob(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	client policy.Client,
) (oci.Manifest, Verdict, error) {
	q := g.question(repo, client)
	m, v, err := q.blob(ctx, d)
	v, err = q.orWarn(v, err, d, d)
	v.Upstream = q.waited
	return m, v, err
}

// question is one client's question about one repository, while it is being
// answered by one goroutine.
type question struct {
	*Gate
	repo    policy.Repository
	client  policy.Client
	waited  time.Duration // for upstreams, shared flights included
	asked   int           // parents that were not in memory
	counted bool          // against the client's quota

	deadline time.Time // for the answer; what memory answers does not look at it
}

func (g *Gate) question(repo policy.Repository, client policy.Client) *question {
	return &question{
		Gate:     g,
		repo:     repo,
		client:   client,
		deadline: time.Now().Add(g.Limits.VerifyTimeout),
	}
}

func (q *question) manifest(ctx context.Context, ref policy.Reference) (oci.Manifest, Verdict, error) {
	if !q.couldAllow() { // nothing of it can be admitted: the upstream need not be asked
		return oci.Manifest{}, q.refusedUnseen(ref), nil
	}
	m, err := q.resolve(ctx, ref)
	if err != nil {
		return oci.Manifest{}, Verdict{}, err
	}
	if m.Kind == oci.Index && !m.Platforms && !m.Inline && isFallbackTag(ref.Tag) && q.couldAllow() {
		if v, ok := q.static(q.policyOf(m), m.Digest); ok && !v.Admitted() {
			return m.Manifest, v, nil
		}
		// Only a list of names: its entries are judged when they are asked for,
		// and it is never learnt, so it admits none of them.
		return m.Manifest, Verdict{
			Outcome: Allowed,
			Image:   q.repo,
			Digest:  m.Digest,
			Signer:  "referrers index",
		}, nil
	}
	v, err := q.admit(ctx, m, 0)
	if v, err = q.orWarn(v, err, m.Digest, m.alias); err != nil {
		return oci.Manifest{}, Verdict{}, err
	}
	if v.Admitted() {
		if err := q.remember(ctx, m, v); err != nil {
			return oci.Manifest{}, Verdict{}, err
		}
	}
	return m.Manifest, v, nil
}

func (q *question) blob(ctx context.Context, d digest.Digest) (oci.Manifest, Verdict, error) {
	p := q.policyFor(d)
	if v, ok := q.static(p, d); ok {
		return oci.Manifest{}, v, nil
	}
	isManifest, err := q.knownManifest(ctx, d)
	if err != nil {
		return oci.Manifest{}, Verdict{}, err
	}
	if isManifest {
		m, err := q.load(ctx, d)
		if err != nil {
			return oci.Manifest{}, Verdict{}, err
		}
		v, err := q.admit(ctx, m, 0)
		return m.Manifest, v, err
	}
	v, err := q.byParents(ctx, part{facts.PartBlob, d, -1}) // a blob's own manifest is no nesting
	if err == nil && !v.Admitted() {
		final := v.final
		v = Verdict{
			Image:      q.repo,
			Digest:     d,
			Policy:     p.Name,
			PolicyHash: p.Hash,
			Parent:     v.Parent,
			Unknown:    v.Unknown,
			Reasons:    v.Reasons,
		}
		if !final { // else its image is denied in so many words
			v = v.under(p, q.Mode)
		}
	}
	return oci.Manifest{}, v, err
}

// refusedUnseen is the denial of whatever a repository holds.
func (q *question) refusedUnseen(ref policy.Reference) Verdict {
	v := Verdict{Image: q.repo, Digest: ref.Digest, Tag: ref.Tag}
	p := q.policyFor(v.Digest)
	v.Policy, v.PolicyHash, v.Reasons = p.Name, p.Hash, []Reason{{Reason: deniedBecause(p)}}
	return v
}

// deniedBecause is the reason of a static deny.
func deniedBecause(p *policy.Policy) string {
	switch {
	case p.Where.IsZero():
		return "no policy matches it, and defaultAction is not allow"
	case len(p.Digests) > 0:
		return "this digest is denied"
	case p.Static == policy.Allow:
		return "the exemption ended on " + p.Expires.AddDate(0, 0, -1).Format(time.DateOnly)
	}
	if p.Name == policy.CanaryName {
		return "it is the canary, which is always refused: this node asks the gate"
	}
	return "this repository is denied"
}

// orWarn lets mode: warn admit what could not be verified; the bytes were
// still resolved once and hashed.
func (q *question) orWarn(v Verdict, err error, d, alias digest.Digest) (Verdict, error) {
	if err == nil {
		return v, nil
	}
	var couldNot *Unverified
	if !errors.As(err, &couldNot) && !errors.Is(err, errTooManyParents) && !errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, context.Canceled) {
		return v, err
	}
	p := q.policyForEither(d, alias)
	if !q.warns(p) {
		return v, err
	}
	return Verdict{
		Outcome:    WarnedUnverified,
		Image:      q.repo,
		Digest:     d,
		Policy:     p.Name,
		PolicyHash: p.Hash,
		Reasons:    []Reason{{Reason: "it could not be verified"}},
	}, nil
}

// warns reports whether a refusal under p admits with a warning. Nothing
// weakens a written-out static deny.
func (g *Gate) warns(p *policy.Policy) bool {
	return !p.DeniesInWriting() && (p.Mode == policy.Warn || g.Mode == policy.Warn)
}

// CouldAllow reports whether any image of repo could be admitted, in warn mode
// or by some policy.
func (g *Gate) CouldAllow(repo policy.Repository, client policy.Client) bool {
	return g.Policies.CouldAllow(repo, client) || g.warns(g.Policies.For(repo, "", client))
}

// static answers a policy that needs no verification. ok is false when the
// signatures, or an admitted parent, may still decide.
func (q *question) static(p *policy.Policy, d digest.Digest) (Verdict, bool) {
	v := Verdict{
		Image:      q.repo,
		Digest:     d,
		Policy:     p.Name,
		PolicyHash: p.Hash,
		final:      true,
	}
	switch p.Static {
	case policy.Allow:
		if !p.Expires.IsZero() && !q.Now().Before(p.Expires) {
			v.Reasons = []Reason{{Reason: deniedBecause(p)}}
			v.final = false
			return v.under(p, q.Mode), true
		}
		v.Outcome, v.Signer = Allowed, "static: allow"
		return v, true
	case policy.Deny:
		if len(p.Digests) > 0 { // it names this very digest
			v.Reasons = []Reason{{Reason: deniedBecause(p)}}
			return v.under(p, q.Mode), true
		}
	}
	return Verdict{}, false
}

// admit decides about one manifest: by its own signature, as a signature
// artifact, or as a part of an admitted index.
func (q *question) admit(ctx context.Context, m *cachedManifest, depth int) (Verdict, error) {
	p := q.policyOf(m)
	if v, ok := q.static(p, m.Digest); ok {
		v.ownChildren = p.OwnChildren
		return v, nil
	}
	if v, ok := q.cached(m.Digest, p); ok && v.Outcome == Allowed {
		v.ownChildren = p.OwnChildren
		return v, nil
	}
	asManifest := part{facts.PartManifest, m.Digest, depth}
	askParents := !p.OwnChildren && depth < maxNesting
	if askParents { // an index just admitted costs nothing to ask
		if v, err := q.byCachedParents(ctx, asManifest); err == nil && v.Outcome == Allowed {
			return v, nil
		}
	}
	v, ok, artifactErr := q.artifact(ctx, m)
	if ok {
		return v, nil
	}
	own, ownErr := q.own(ctx, m, p)
	own.ownChildren = p.OwnChildren
	if ownErr == nil && own.Outcome == Allowed {
		return own, nil
	}
	if ownErr == nil {
		ownErr = artifactErr // what might have passed as an artifact is not denied as an image
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
		}
	}
	if ownErr != nil {
		return Verdict{}, ownErr
	}
	return own.under(p, q.Mode), nil
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
	p := q.Policies.ForEither(q.repo, d.String(), alias.String(), q.client)
	if p.Mode == policy.Warn && !p.Expires.IsZero() && !q.Now().Before(p.Expires) {
		enforced := *p
		enforced.Mode = policy.Enforce
		return &enforced
	}
	return p
}

// cached is the verdict by d's own signatures, if memory still has it.
func (q *question) cached(d digest.Digest, p *policy.Policy) (Verdict, bool) {
	v, ok := q.Cache.verdicts.Get(q.verdictKey(q.repo, d, p))
	if !ok || !q.Now().Before(v.until) {
		return Verdict{}, false
	}
	v.CacheHit = true
	return v, true
}

// own is the verdict by the manifest's own signatures: from the cache, or made
// once however many ask, on nobody's context but the gate's.
func (q *question) own(ctx context.Context, m *cachedManifest, p *policy.Policy) (Verdict, error) {
	if p.Static == policy.Deny {
		return Verdict{
			Image:      q.repo,
			Digest:     m.Digest,
			Policy:     p.Name,
			PolicyHash: p.Hash,
			Reasons:    []Reason{{Reason: deniedBecause(p)}},
		}, nil
	}
	if v, ok := q.cached(m.Digest, p); ok {
		return v, nil
	}
	if err := q.mayAskUpstream(); err != nil {
		return Verdict{}, err
	}
	key := q.verdictKey(q.repo, m.Digest, p)
	return coalesce(ctx, q, key, func(ctx context.Context) (Verdict, error) {
		done, err := q.enter(ctx, q.repo.Host)
		if err != nil {
			return Verdict{}, err
		}
		defer done()
		v, err := q.observe.verdict(
			ctx,
			p,
			func(ctx context.Context) (Verdict, error) { return q.judge(ctx, q.repo, m.Digest, p) },
		)
		if err != nil {
			return Verdict{}, err
		}
		ttl := q.TTL
		switch {
		case v.quick:
			ttl = min(q.DenyTTL, noSignatureTTL)
		case v.Outcome != Allowed, v.stale:
			ttl = q.DenyTTL
		}
		v.until = q.Now().Add(ttl)
		if !p.Expires.IsZero() && p.Expires.After(q.Now()) && p.Expires.Before(v.until) {
			v.until = p.Expires
		}
		if !v.ends.IsZero() && v.ends.Before(v.until) { // a certificate's
			v.until = v.ends
		}
		memory := v
		memory.signed = nil // written once, by whoever made the verdict
		q.Cache.verdicts.SetWithTTL(key, memory, 1, ttl)
		return v, nil
	})
}

// enter waits until another verdict may be made. One upstream's share is half
// of them: one that stalls does not stop the verdicts of all others.
func (g *Gate) enter(ctx context.Context, host string) (done func(), err error) {
	made, _ := g.perHost.LoadOrStore(host, make(chan struct{}, max(1, g.Limits.VerdictsInFlight/2)))
	share := made.(chan struct{})
	for _, slots := range []chan struct{}{share, g.inFlight} {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if slots != share {
				<-share
			}
			return nil, unverified(
				fmt.Errorf(
					"%d verdicts are being made already (limits.verdictsInFlight): %w",
					g.Limits.VerdictsInFlight,
					ctx.Err(),
				),
			)
		}
	}
	return func() { <-g.inFlight; <-share }, nil
}

// slot does work that costs CPU. The slot is held until the work has really
// ended, whatever becomes of ctx.
func (g *Gate) slot(ctx context.Context, work func() error) error {
	select {
	case g.crypto <- struct{}{}:
		defer func() { <-g.crypto }()
		return work()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noSignatureTTL is short: an image is often pulled just before it is signed.
const noSignatureTTL = 5 * time.Second

// isFallbackTag reports whether tag is the referrers tag of a digest
// (distribution spec, "Referrers Tag Schema").
func isFallbackTag(tag string) bool {
	algorithm, hex, ok := strings.Cut(tag, "-")
	if !ok || algorithm != "sha256" && algorithm != "sha512" || len(hex) != 64 {
		return false
	}
	return strings.Trim(hex, "0123456789abcdef") == ""
}
