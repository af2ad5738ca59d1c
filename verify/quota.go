package verify

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxClients bounds the clients whose budget is remembered; beyond it all
// begin afresh.
const maxClients = 10_000

// quota is how often one client may make the gate ask an upstream, so that no
// client spends everybody's rate limit there.
type quota struct {
	perMinute int

	mu      sync.Mutex
	clients map[string]*rate.Limiter
}

func newQuota(perMinute int) *quota {
	return &quota{perMinute: perMinute, clients: map[string]*rate.Limiter{}}
}

// take reports whether addr may cause one more question; if not, when to ask
// again.
func (q *quota) take(addr string, now time.Time) (wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := network(addr)
	l := q.clients[key]
	if l == nil {
		if len(q.clients) >= maxClients {
			clear(q.clients)
		}
		l = rate.NewLimiter(rate.Limit(q.perMinute)/60, q.perMinute)
		q.clients[key] = l
	}
	if l.AllowN(now, 1) {
		return 0, true
	}
	return time.Minute / time.Duration(q.perMinute), false
}

// network is who shares a budget: an IPv4 address, an IPv6 /64.
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

// QuotaError says that one client has made the gate ask upstreams too often
// (429 TOOMANYREQUESTS).
type QuotaError struct{ Wait time.Duration }

func (e *QuotaError) Error() string {
	return "this client has made the gate ask registries too often (limits.clientMisses); again in " + strconv.Itoa(e.Seconds()) + " s"
}

// Seconds is Wait as a Retry-After header carries it: whole, at least 1.
func (e *QuotaError) Seconds() int { return max(1, int((e.Wait+time.Second-1)/time.Second)) }

// mayAskUpstream takes one of the client's questions, once per request.
func (q *question) mayAskUpstream() error {
	if q.counted || q.client.Addr == "" || q.quota.perMinute <= 0 { // no address: a command of this machine's admin
		return nil
	}
	wait, ok := q.quota.take(q.client.Addr, q.Now())
	if !ok {
		return &QuotaError{Wait: wait}
	}
	q.counted = true
	return nil
}
