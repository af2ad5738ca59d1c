package proxy

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
)

// maxCanaries bounds what is counted; beyond it the count begins afresh for all.
const maxCanaries = 10_000

// canaries counts how often the canary was asked for. `pullgate doctor` on a node
// learns from it whether the node's runtime asked, from the gate it pulls from
// and without another route. Its own tag tells one examination from the others:
// many nodes may share an address. Without such a tag the address counts.
type canaries struct {
	mu    sync.Mutex
	asked map[string]int // by an examination's tag, or client address
}

// count notes a refused canary and tells the client how often it was asked for.
func (c *canaries) count(w http.ResponseWriter, client policy.Client, v verify.Verdict) {
	if v.Policy != policy.CanaryName || v.Admitted() {
		return
	}

	key := client.Addr
	if strings.HasPrefix(v.Tag, policy.CanaryNonce) {
		key = v.Tag
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) >= maxCanaries {
		clear(c.asked)
	}
	c.asked[key]++
	w.Header().Set("Pullgate-Canary", strconv.Itoa(c.asked[key]))
}
