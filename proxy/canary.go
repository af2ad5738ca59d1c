package proxy

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// canaries counts who has asked for the canary, so that `pullgate doctor` on a
// node learns whether its runtime did, from the gate it pulls from and without
// another route.
type canaries struct {
	mu    sync.Mutex
	asked map[string]int // by client address
}

// maxCanaryClients bounds the count; beyond it all begin afresh.
const maxCanaryClients = 10_000

// count notes a refused canary and says how often this client has asked.
func (c *canaries) count(w http.ResponseWriter, client policy.Client, v verify.Verdict) {
	if v.Policy != policy.CanaryName || v.Admitted() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) >= maxCanaryClients {
		clear(c.asked)
	}
	c.asked[client.Addr]++
	w.Header().Set("Pullgate-Canary", strconv.Itoa(c.asked[client.Addr]))
}
