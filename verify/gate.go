// Package verify is the gate: it says whether one manifest or blob of an
// upstream repository may be served, and why not. It decides from the bytes
// it was given and hashed itself, the policies, and the signatures that package
// judge finds; it knows nothing of HTTP answers, and grants nothing from memory
// alone.
//
// There are three outcomes: a Verdict that admits, a Verdict that denies, and
// an error, which means "could not tell" and must never be served or cached
// as either.
package verify

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/singleflight"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/judge"
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
	// Mirrors are the registries behind that one, in the order in which they are
	// asked, where there are several: signatures are looked for in each of them. Nil,
	// or an answer of nil: Registry is the only one.
	Mirrors func(host string) []Registry
	Store   facts.Store
	Cache   *Cache
	Limits  Limits
	TTL     time.Duration // an allow's life in the cache
	DenyTTL time.Duration // a denial's
	TagTTL  time.Duration // how long a tag is answered without asking upstream

	// StaleIfError is how long after the registry last had them the signatures
	// kept in the Store are verified again instead, while it cannot be asked.
	StaleIfError time.Duration

	// Recheck is how often a digest that is answered from memory or Store is asked
	// for upstream: one that is gone, or cannot be asked for, is refused
	// StaleIfError after the registry last had it. 0: every StaleIfError.
	Recheck time.Duration

	// EveryLookup lets each look-up for signatures end, also when the policy is
	// satisfied already.
	EveryLookup bool

	Now    func() time.Time     // nil: time.Now
	Tracer trace.TracerProvider // nil: no spans
	Meter  metric.MeterProvider // nil: no metrics
}

// Gate decides under one configuration. It is immutable and safe for
// concurrent use; a reload makes a new one.
type Gate struct {
	config   Config
	judge    *judge.Judge
	flights  singleflight.Group
	inFlight chan struct{}
	perHost  shares // of inFlight, by upstream host
	crypto   chan struct{}
	observe  *observer
	quota    *quota
	hanging  atomic.Int64 // work that was given up and has not ended

	deniesDigests bool // some policy denies digests in writing
}

// New compiles the policies' authorities.
func New(c Config) (*Gate, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Store = sharedStore{c.Store}
	observe, err := newObserver(c.Tracer, c.Meter)
	if err != nil {
		return nil, err
	}

	g := &Gate{
		config:   c,
		observe:  observe,
		quota:    newQuota(c.Limits.ClientMisses),
		inFlight: make(chan struct{}, c.Limits.VerdictsInFlight),
		crypto:   make(chan struct{}, runtime.GOMAXPROCS(0)),

		deniesDigests: slices.ContainsFunc(c.Policies.Policies(), (*policy.Policy).DeniesDigests),
	}
	g.judge, err = judge.New(judge.Config{
		Policies: c.Policies.Policies(),
		Trust:    c.Trust,
		Limits: judge.Limits{
			ManifestBytes: c.Limits.ManifestBytes,
			PayloadBytes:  c.Limits.PayloadBytes,
			VerdictBytes:  c.Limits.VerdictBytes,
			Signatures:    c.Limits.Signatures,
			Timeout:       c.Limits.VerifyTimeout,
		},
		Slot: g.slot,
		Kept: g.keptSignatures,

		EveryLookup: c.EveryLookup,
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// keptSignatures are the signatures kept beside the facts about image, while
// they may stand in for a registry that cannot be asked.
func (g *Gate) keptSignatures(ctx context.Context, image policy.Image) ([]sigs.Candidate, error) {
	stored, err := g.config.Store.Evidence(ctx, image.Repository, image.Digest, g.config.Now(), g.config.StaleIfError)
	if err != nil {
		return nil, err
	}
	return candidates(stored), nil
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
	return m, v.Verdict, err
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
	v.Upstream = q.waited
	return m, v.Verdict, err
}

// CouldAllow reports whether any image of repo could be admitted, in warn mode
// or by some policy.
func (g *Gate) CouldAllow(repo policy.Repository, client policy.Client) bool {
	return g.config.Policies.CouldAllow(repo, client) || g.warns(g.policyOfAll(repo, client))
}

// Opens is CouldAllow by more than policies that name digests alone. Listings
// and signature artifacts are served only for such repositories.
func (g *Gate) Opens(repo policy.Repository, client policy.Client) bool {
	return g.config.Policies.Opens(repo, client) || g.warns(g.policyOfAll(repo, client))
}

func (g *Gate) policyOfAll(repo policy.Repository, client policy.Client) *policy.Policy {
	return g.config.Policies.For(repo, "", client)
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
	paid    atomic.Int64  // questions taken from the quota and not asked yet

	tag    string        // that was asked for; empty: a digest was
	tagged digest.Digest // the manifest that tag stands for

	deadline time.Time // for the answer; what memory answers does not look at it
}

func (g *Gate) question(repo policy.Repository, client policy.Client) *question {
	return &question{
		Gate:     g,
		repo:     repo,
		client:   client,
		deadline: time.Now().Add(g.config.Limits.VerifyTimeout),
	}
}
