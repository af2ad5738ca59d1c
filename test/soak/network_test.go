package soak

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// network is the way from the gate to the registry: a toxiproxy at one address,
// with other faults ("toxics") at other times.
//
// Every change cuts all connections and starts a new proxy. Toxics could be
// changed under running connections, but taking one away waits five seconds for
// each chunk that a connection holds whose other end is gone, and no new
// connection is let in meanwhile (version 2.12). So what hits a running
// connection is the cut, and what a toxic does to each by its own count:
// limit_data tears it after some bytes.
type network struct {
	t      *testing.T
	addr   string
	target string
	proxy  *toxiproxy.Proxy // nil: refused
}

func startNetwork(t *testing.T, target string) *network {
	t.Helper()
	n := &network{t: t, addr: freeAddr(t), target: target}
	t.Cleanup(n.refuse)
	n.with()
	return n
}

// with cuts every connection; those to come have these toxics, each in
// toxiproxy's JSON. Without any, the network is well again.
func (n *network) with(toxics ...string) {
	n.t.Helper()
	n.refuse()
	p := toxiproxy.NewProxy(
		toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()),
		"registry",
		n.addr,
		n.target,
	)
	for _, toxic := range toxics {
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			n.t.Errorf("toxic %s: %v", toxic, err)
			return
		}
	}
	if err := p.Start(); err != nil {
		n.t.Errorf("the network is not back: %v", err)
		return
	}
	n.proxy = p
}

// refuse cuts every connection and takes no more.
func (n *network) refuse() {
	if n.proxy != nil {
		n.proxy.Stop()
		n.proxy = nil
	}
}

// latency delays what goes either way, each chunk by up to most.
func latency(most time.Duration) []string {
	half := most.Milliseconds() / 2
	var both []string
	for _, way := range []string{"upstream", "downstream"} {
		both = append(
			both,
			fmt.Sprintf(
				`{"type": "latency", "stream": %q, "attributes": {"latency": %d, "jitter": %d}}`,
				way,
				half,
				half,
			),
		)
	}
	return both
}

// cut ends the share of connections, 1 for all, after so many bytes of answers.
func cut(share float64, after int) string {
	return fmt.Sprintf(`{"type": "limit_data", "toxicity": %g, "attributes": {"bytes": %d}}`, share, after)
}

// reset drops the first answer and resets the connection.
func reset(share float64, after time.Duration) string {
	return fmt.Sprintf(
		`{"type": "reset_peer", "toxicity": %g, "attributes": {"timeout": %d}}`,
		share,
		after.Milliseconds(),
	)
}

// stall lets nothing of an answer through, and ends nothing.
const stall = `{"type": "timeout", "attributes": {"timeout": 0}}`

// slowClose keeps the end of a connection back.
func slowClose(by time.Duration) string {
	return fmt.Sprintf(`{"type": "slow_close", "attributes": {"delay": %d}}`, by.Milliseconds())
}
