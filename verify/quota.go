package verify

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// maxClients bounds the clients whose budgets are remembered. When there are
// more, all budgets begin afresh.
const maxClients = 10_000

// maxPrices bounds the repositories that are remembered as expensive, likewise.
const maxPrices = 10_000

// expensive is how many questions to an upstream make a verdict an expensive
// one. An image with a few signatures and attestations needs fewer.
const expensive = 16

// quota is how often one client may make the gate ask an upstream, so that no
// client spends the rate limit that all clients share there.
type quota struct {
	perMinute int

	mu      sync.Mutex
	clients map[string]*budget
	prices  map[policy.Repository]int // of a verdict, where it was expensive
}

func newQuota(perMinute int) *quota {
	return &quota{
		perMinute: perMinute,
		clients:   map[string]*budget{},
		prices:    map[policy.Repository]int{},
	}
}

// priceOf is what a verdict about an image of repo is likely to ask for; 0: what
// it usually does.
func (q *quota) priceOf(repo policy.Repository) int {
	q.mu.Lock()
	defer q.mu.Unlock()

	return q.prices[repo]
}

// learnPrice remembers what a verdict has asked for. A cheap one halves what is
// remembered: a repository may hold both sorts.
func (q *quota) learnPrice(repo policy.Repository, asked int) {
	q.mu.Lock()
	defer q.mu.Unlock()

	price := max(asked, q.prices[repo]/2)
	if price <= expensive {
		delete(q.prices, repo)
		return
	}
	if len(q.prices) >= maxPrices {
		clear(q.prices)
	}
	q.prices[repo] = price
}

// budget is what one client may still ask. Below 0 it owes.
type budget struct {
	left float64
	at   time.Time // when left was so
}

// take takes n questions of addr's, at most all that it may have at once. When
// it has fewer, take takes none, and wait is how long until it has them.
func (q *quota) take(addr string, n int, now time.Time) (wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	b := q.of(addr, now)
	missing := float64(min(n, q.perMinute)) - b.left
	if missing > 0 {
		return time.Duration(missing * float64(time.Minute) / float64(q.perMinute)), false
	}
	b.left -= float64(n)
	return 0, true
}

// charge takes n questions of addr's that were asked already, whether it has
// them or not; a negative n gives back. What it owes is at most a minute's.
func (q *quota) charge(addr string, n int, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()

	b := q.of(addr, now)
	b.left = max(b.left-float64(n), -float64(q.perMinute))
}

// has reports whether addr has n questions left.
func (q *quota) has(addr string, n float64, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()

	return q.of(addr, now).left >= n
}

// soon is the refusal of a client that has a question again when the next one
// falls due.
func (q *quota) soon() *QuotaError {
	return &QuotaError{Wait: time.Minute / time.Duration(q.perMinute)}
}

// of is the budget of addr as of now, while q is locked.
func (q *quota) of(addr string, now time.Time) *budget {
	key := policy.Client{Addr: addr}.Network()
	b := q.clients[key]
	if b == nil {
		if len(q.clients) >= maxClients {
			clear(q.clients)
		}
		b = &budget{left: float64(q.perMinute), at: now}
		q.clients[key] = b
	}

	if since := now.Sub(b.at); since > 0 {
		b.left += since.Minutes() * float64(q.perMinute)
		b.at = now
	}
	b.left = min(b.left, float64(q.perMinute))
	return b
}

// QuotaError says that a client has made the gate ask upstreams too often
// (429 TOOMANYREQUESTS).
type QuotaError struct{ Wait time.Duration }

func (e *QuotaError) Error() string {
	return "this client has made the gate ask registries too often (limits.clientMisses); again in " +
		strconv.Itoa(e.Seconds()) + " s"
}

// Seconds is Wait as a Retry-After header carries it: whole, at least 1.
func (e *QuotaError) Seconds() int { return max(1, int((e.Wait+time.Second-1)/time.Second)) }

// Spend takes one of a client's questions to upstreams, for an answer that needs
// no verdict. The error is a *QuotaError.
func (g *Gate) Spend(client policy.Client) error {
	return g.question(policy.Repository{}, client).mayAskUpstream()
}

// ChargeMiss runs open, which asks an upstream for the blob that v admits, and
// takes one of client's questions if the upstream does not have it. A client
// without a question left is refused before open runs, unless a manifest lists
// the blob (v.Size is known): such blobs exist, so they are exempt. Errors: a
// *QuotaError, or what open returned.
func (g *Gate) ChargeMiss(client policy.Client, v Verdict, open func() error) error {
	if err := g.exhausted(client); err != nil && v.Size == 0 {
		return err
	}

	err := open()
	if oci.IsNotFound(err) {
		if err := g.Spend(client); err != nil {
			return err
		}
	}
	return err
}

// ChargeRefusal runs ask, which asks an upstream whether client may read something,
// and takes one of client's questions if the upstream refuses. A client without a
// question left is refused before: it may be trying passwords. Errors: a
// *QuotaError, or what ask returned.
func (g *Gate) ChargeRefusal(client policy.Client, ask func() error) error {
	if err := g.exhausted(client); err != nil {
		return err
	}

	err := ask()
	var refused *oci.UpstreamError
	if errors.As(err, &refused) && refused.Status >= 400 && refused.Status < 500 {
		_ = g.Spend(client) // it had one a moment ago
	}
	return err
}

// exhausted reports, as a *QuotaError, that a client has no question left, and
// takes none.
func (g *Gate) exhausted(client policy.Client) error {
	if !g.limited(client) || g.quota.has(client.Addr, 1, g.config.Now()) {
		return nil
	}
	return g.quota.soon()
}

// limited reports whether client has a quota. A command of this machine's admin,
// which has no address, has none.
func (g *Gate) limited(client policy.Client) bool { return client.Addr != "" && g.quota.perMinute > 0 }

// mayAskUpstream takes one of the client's questions, once per request. What the
// request asks beyond that is charged when it has been asked.
func (q *question) mayAskUpstream() error { return q.mayAsk(1) }

func (q *question) mayAsk(n int) error {
	if !q.limited(q.client) || q.counted && n <= 1 {
		return nil
	}

	wait, ok := q.quota.take(q.client.Addr, n, q.config.Now())
	if !ok {
		return &QuotaError{Wait: wait}
	}
	q.counted = true
	q.paid.Add(int64(n))
	return nil
}

// judging runs judge, which makes a verdict or shares another question's. Where
// verdicts have been expensive the client pays for one in advance, and gets back
// what was not asked for it.
func (q *question) judging(judge func() (judgement, error)) (judgement, error) {
	price := q.quota.priceOf(q.repo)
	if err := q.mayAsk(max(1, price)); err != nil {
		return judgement{}, err
	}

	v, err := judge()
	if price > 1 && q.limited(q.client) {
		q.quota.charge(q.client.Addr, -int(q.paid.Swap(0)), q.config.Now())
	}
	return v, err
}

// charge has the client pay for what its question has asked of a registry, apart
// from what it paid in advance. The answer stays what it is whatever that leaves
// the client: it may be others' answer, too.
func (q *question) charge(registry *countingRegistry) {
	asked := registry.asked.Swap(0)
	if !q.limited(q.client) {
		return
	}
	for {
		paid := q.paid.Load()
		used := min(paid, asked)
		if q.paid.CompareAndSwap(paid, paid-used) {
			q.quota.charge(q.client.Addr, int(asked-used), q.config.Now())
			return
		}
	}
}

// chargeVerdict is charge for a verdict, whose cost is remembered.
func (q *question) chargeVerdict(registry *countingRegistry) {
	q.quota.learnPrice(q.repo, int(registry.asked.Load()))
	q.charge(registry)
}

// countingRegistry counts what is asked of a registry.
type countingRegistry struct {
	Registry
	asked atomic.Int64
	all   *countingRegistry // which counts this one's questions, too; nil: none
}

// also counts what r is asked as if c had been.
func (c *countingRegistry) also(r Registry) *countingRegistry {
	return &countingRegistry{Registry: r, all: c}
}

func (c *countingRegistry) count() {
	c.asked.Add(1)
	if c.all != nil {
		c.all.count()
	}
}

func (c *countingRegistry) Manifest(ctx context.Context, image policy.Image, limit int64) (oci.Manifest, error) {
	c.count()
	return c.Registry.Manifest(ctx, image, limit)
}

func (c *countingRegistry) Blob(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) ([]byte, error) {
	c.count()
	return c.Registry.Blob(ctx, repo, d, limit)
}

func (c *countingRegistry) Referrers(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	limit int64,
) (oci.Referrers, error) {
	c.count()
	return c.Registry.Referrers(ctx, repo, d, limit)
}

func (c *countingRegistry) Resolve(
	ctx context.Context,
	repo policy.Repository,
	tag string,
) (d digest.Digest, ok bool, err error) {
	c.count()
	return c.Registry.Resolve(ctx, repo, tag)
}
