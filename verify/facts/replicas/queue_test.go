package replicas

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// TestQueueBounds: what waits is bounded in number and bytes, the newest stays, and
// what made room is not forgotten to have been there.
func TestQueueBounds(t *testing.T) {
	t.Parallel()
	fact := func(size int) facts.Fact {
		content := make([]byte, size)
		return facts.Fact{Manifest: oci.Manifest{Bytes: content, Digest: digest.FromBytes(content)}}
	}

	q := newQueue()
	for range maxQueued + 10 {
		q.put(fact(1))
	}
	if q.len() != maxQueued || !q.lostSome() || q.lostSome() {
		t.Errorf("%d wait", q.len())
	}

	q = newQueue()
	for n := range 2 * maxQueuedBytes >> 20 {
		q.put(fact(1<<20 + n))
	}
	if q.bytes > maxQueuedBytes || q.bytes < maxQueuedBytes/2 || !q.lostSome() {
		t.Errorf("%d bytes wait", q.bytes)
	}
	for {
		f, ok := q.first()
		if !ok {
			break
		}
		q.written(f)
	}
	if q.bytes != 0 || q.len() != 0 || q.lostSome() {
		t.Errorf("%d bytes in %d facts are left", q.bytes, q.len())
	}
}

// TestChecks: those who ask while a check runs share the next one.
func TestChecks(t *testing.T) {
	t.Parallel()
	var c checks
	begun, proceed := make(chan int, 10), make(chan struct{})
	n := 0
	ask := func() error {
		n++
		begun <- n
		<-proceed
		return nil
	}

	first := c.join(ask)
	<-begun
	second, third := c.join(ask), c.join(ask)
	if first == second || second != third {
		t.Error("a check that has begun answers a later question, or two are put off apart")
	}
	proceed <- struct{}{}
	<-first.done
	if got := <-begun; got != 2 {
		t.Errorf("check %d follows", got)
	}
	close(proceed)
	<-second.done
}
