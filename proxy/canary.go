package proxy

import (
	"net/http"
	"strconv"
	"sync"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// maxCanaryClients bounds the addresses that are counted; beyond it the count
// begins afresh for all of them.
const maxCanaryClients = 10_000

// canaries counts how often each client has asked for the canary. `pullgate
// doctor` on a node learns from it whether the node's runtime asked, from the
// gate it pulls from and without another route.
type canaries struct {
	mu    sync.Mutex
	asked map[string]int // by client address
}

// count notes a refused canary and tells the client how often it has asked.
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
