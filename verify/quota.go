package verify

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// maxClients bounds the clients whose budgets are remembered. When there are
// more, all budgets begin afresh.
const maxClients = 10_000

// quota is how often one client may make the gate ask an upstream, so that no
// client spends the rate limit that all clients share there.
type quota struct {
	perMinute int

	mu      sync.Mutex
	clients map[string]*rate.Limiter
}

func newQuota(perMinute int) *quota {
	return &quota{perMinute: perMinute, clients: map[string]*rate.Limiter{}}
}

// take reports whether addr may cause one more question. If not, wait is how long
// to wait before asking again.
func (q *quota) take(addr string, now time.Time) (wait time.Duration, ok bool) {
	if q.of(addr).AllowN(now, 1) {
		return 0, true
	}
	return time.Minute / time.Duration(q.perMinute), false
}

// left reports whether addr has a question left.
func (q *quota) left(addr string, now time.Time) bool { return q.of(addr).TokensAt(now) >= 1 }

func (q *quota) of(addr string) *rate.Limiter {
	q.mu.Lock()
	defer q.mu.Unlock()

	key := network(addr)
	if l := q.clients[key]; l != nil {
		return l
	}

	if len(q.clients) >= maxClients {
		clear(q.clients)
	}
	l := rate.NewLimiter(rate.Limit(q.perMinute)/60, q.perMinute)
	q.clients[key] = l
	return l
}

// network names the clients that share a budget: an IPv4 address or an IPv6 /64.
func network(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}

	prefix, err := ip.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.String()
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

// exhausted reports, as a *QuotaError, that a client has no question left, and
// takes none.
func (g *Gate) exhausted(client policy.Client) error {
	if client.Addr == "" || g.quota.perMinute <= 0 || g.quota.left(client.Addr, g.config.Now()) {
		return nil
	}
	return &QuotaError{Wait: time.Minute / time.Duration(g.quota.perMinute)}
}

// mayAskUpstream takes one of the client's questions, once per request.
func (q *question) mayAskUpstream() error {
	if q.counted || q.client.Addr == "" || q.quota.perMinute <= 0 { // no address: a command of this machine's admin
		return nil
	}

	wait, ok := q.quota.take(q.client.Addr, q.config.Now())
	if !ok {
		return &QuotaError{Wait: wait}
	}
	q.counted = true
	return nil
}
