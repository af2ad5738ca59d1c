package facts

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pullgate/pullgate/policy"
)

// noEpoch is the epoch of a repository of which nothing is known: no fact was
// learned in it.
const noEpoch = math.MaxUint64

// holdings is how much of the state each repository holds, and when it was last
// asked for. It follows the state file, which is right where they differ. Safe
// for concurrent use.
type holdings struct {
	mu     sync.RWMutex
	total  int64
	by     map[policy.Repository]*holding
	epochs uint64 // the newest epoch
}

type holding struct {
	bytes int64
	epoch uint64
	used  atomic.Int64 // in Unix nanoseconds
}

// set says that repo holds so many bytes; 0: nothing any more.
func (h *holdings) set(repo policy.Repository, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()

	known := h.by[repo]
	if known == nil {
		h.epochs++
		known = &holding{epoch: h.epochs}
		h.by[repo] = known
	}

	h.total += bytes - known.bytes
	known.bytes = bytes
	if bytes == 0 {
		delete(h.by, repo)
	}
}

// forgot begins an epoch of repo.
func (h *holdings) forgot(repo policy.Repository) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if known := h.by[repo]; known != nil {
		h.epochs++
		known.epoch = h.epochs
	}
}

// use says that repo was asked for, and returns its epoch.
func (h *holdings) use(repo policy.Repository, now time.Time) uint64 {
	h.mu.RLock()
	defer h.mu.RUnlock()

	known := h.by[repo]
	if known == nil {
		return noEpoch
	}
	known.used.Store(max(known.used.Load(), now.UnixNano()))
	return known.epoch
}

// left is how many of limit bytes repo may hold beside the others.
func (h *holdings) left(repo policy.Repository, limit int64) int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()

	left := limit - h.total
	if known := h.by[repo]; known != nil {
		left += known.bytes
	}
	return left
}

// over reports whether all repositories together hold more than limit bytes, and
// which is to forget something: the largest that holds more than its share, else
// the one that was not asked for the longest. One repository full of junk thus
// makes room for itself.
func (h *holdings) over(limit int64) (victim policy.Repository, ok bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()

	if h.total <= limit {
		return policy.Repository{}, false
	}
	var largest, idle *holding
	var largestOf, idleOf policy.Repository
	for repo, held := range h.by {
		if largest == nil || held.bytes > largest.bytes {
			largest, largestOf = held, repo
		}
		if idle == nil || held.used.Load() < idle.used.Load() {
			idle, idleOf = held, repo
		}
	}

	if largest != nil && largest.bytes > limit/shares {
		return largestOf, true
	}
	return idleOf, idle != nil
}
