package soak

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// network is the way from the gate to the registry: a TCP proxy whose faults
// are switched on and off while connections run.
type network struct {
	listener net.Listener
	target   string

	latency   atomic.Int64 // most that a chunk waits, in nanoseconds
	cut       atomic.Int64 // of 1000 chunks, how many end their connection
	slowClose atomic.Int64 // how long an end is kept back, in nanoseconds
	refuse    atomic.Bool  // new connections are reset
	stall     atomic.Bool  // nothing moves

	mu    sync.Mutex
	pairs map[*pair]bool
	all   sync.WaitGroup
}

// pair is one connection of the gate's and the one to the registry behind it.
type pair struct {
	gate, registry *net.TCPConn
	ended          chan struct{}
	once           sync.Once
}

func (p *pair) reset() {
	p.once.Do(func() {
		close(p.ended)
		for _, c := range []*net.TCPConn{p.gate, p.registry} {
			_ = c.SetLinger(0) // a reset, not an end
			_ = c.Close()
		}
	})
}

func startNetwork(t *testing.T, target string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{listener: l, target: target, pairs: map[*pair]bool{}}
	n.all.Go(n.accept)
	t.Cleanup(func() {
		_ = l.Close()
		n.heal()
		n.cutAll()
		n.all.Wait()
	})
	return n
}

func (n *network) addr() string { return n.listener.Addr().String() }

// heal switches every fault off. What was cut stays cut.
func (n *network) heal() {
	n.latency.Store(0)
	n.cut.Store(0)
	n.slowClose.Store(0)
	n.refuse.Store(false)
	n.stall.Store(false)
}

// cutAll resets every connection there is.
func (n *network) cutAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.pairs {
		p.reset()
	}
}

// open is how many connections the gate has to the registry.
func (n *network) open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pairs)
}

func (n *network) accept() {
	for {
		c, err := n.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		gate := c.(*net.TCPConn)
		if n.refuse.Load() {
			_ = gate.SetLinger(0)
			_ = gate.Close()
			continue
		}
		n.all.Go(func() { n.carry(gate) })
	}
}

func (n *network) carry(gate *net.TCPConn) {
	c, err := net.Dial("tcp", n.target)
	if err != nil {
		_ = gate.Close()
		return
	}
	p := &pair{gate: gate, registry: c.(*net.TCPConn), ended: make(chan struct{})}
	n.mu.Lock()
	n.pairs[p] = true
	n.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { n.pump(p, p.registry, p.gate) })
	both.Go(func() { n.pump(p, p.gate, p.registry) })
	both.Wait()
	p.reset() // both directions have ended: there is nothing left to lose
	n.mu.Lock()
	delete(n.pairs, p)
	n.mu.Unlock()
}

// pump carries one direction, with the faults of the moment.
func (n *network) pump(p *pair, to, from *net.TCPConn) {
	buffer := make([]byte, 16<<10)
	for {
		came, err := from.Read(buffer)
		if came > 0 {
			if most := n.latency.Load(); most > 0 {
				p.wait(time.Duration(rand.Int64N(most)))
			}
			for n.stall.Load() && p.wait(10*time.Millisecond) {
			}
			if rand.Int64N(1000) < n.cut.Load() {
				_, _ = to.Write(buffer[:rand.IntN(came)]) // torn anywhere
				p.reset()
				return
			}
			if _, err := to.Write(buffer[:came]); err != nil {
				p.reset()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			for rest := time.Duration(n.slowClose.Load()); rest > 0 && n.slowClose.Load() > 0; rest -= 20 * time.Millisecond {
				if !p.wait(20 * time.Millisecond) {
					return
				}
			}
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			p.reset()
			return
		}
	}
}

// wait reports whether the pair is still there after d.
func (p *pair) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.ended:
		return false
	case <-timer.C:
		return true
	}
}
