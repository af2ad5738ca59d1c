package soak

import (
	"strings"
	"sync"
	"time"
)

// truth knows what the gate may answer at any moment: which configurations can
// be in force, and whether something is broken on purpose. Nothing here is
// guessed by a clock but the grace after a fault: a configuration counts as
// possible from before it is written, and as the only one once the gate has
// answered by it.
type truth struct {
	mu        sync.Mutex
	revisions []revision // the newest last
	open      int        // faults and restarts under way
	ended     time.Time  // of the last of them
}

// revision is one configuration of the gate.
type revision struct {
	number    int
	keys      string // who may sign: letters of keyNames
	warn      bool
	keyFile   bool      // the key stands in a file that is swapped
	confirmed time.Time // zero: it may be in force, or not yet
}

// grace is how long after a fault somebody may still be told of it: who begins
// to wait now may join a look-up that is just about to fail.
const grace = time.Second

// written says that r may be in force from now on.
func (tr *truth) written(r revision) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	r.confirmed = time.Time{} // r may be made from one that was
	tr.revisions = append(tr.revisions, r)
}

// confirmed says that the newest revision is in force, and no other.
func (tr *truth) confirmed() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.revisions[len(tr.revisions)-1].confirmed = time.Now()
	if n := len(tr.revisions); n > 1000 { // no request takes as long
		tr.revisions = append([]revision(nil), tr.revisions[n-500:]...)
	}
}

func (tr *truth) newest() revision {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.revisions[len(tr.revisions)-1]
}

// since lists the revisions under which a request may have been answered that
// was sent at sent and whose answer is here.
func (tr *truth) since(sent time.Time) []revision {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	i := len(tr.revisions) - 1
	for i > 0 && (tr.revisions[i].confirmed.IsZero() || tr.revisions[i].confirmed.After(sent)) {
		i--
	}
	return append([]revision(nil), tr.revisions[i:]...)
}

// trouble begins something that excuses failures; the function it returns ends it.
func (tr *truth) trouble() (end func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.open++
	return func() {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.open--
		tr.ended = time.Now()
	}
}

// excused reports whether a request sent at sent may have met trouble.
func (tr *truth) excused(sent time.Time) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.open > 0 || sent.Before(tr.ended.Add(grace))
}

// mayAllow reports whether o can be admitted under r, whatever the gate has
// learnt.
func (r revision) mayAllow(o *object) bool {
	if r.warn || strings.ContainsAny(o.signers, r.keys) {
		return true
	}
	for _, parent := range o.parents {
		if r.mayAllow(parent) {
			return true
		}
	}
	return false
}

// mustAllow reports whether o has to be admitted under r: by its own signature,
// or by a parent that somebody had been given before sent.
func (r revision) mustAllow(o *object, sent time.Time) bool {
	if r.warn || strings.ContainsAny(o.signers, r.keys) {
		return true
	}
	for _, parent := range o.parents {
		if parent.servedBefore(sent) && r.mustAllow(parent, sent) {
			return true
		}
	}
	return false
}
