package judge

import "sync/atomic"

// Budget is what may still be fetched, in bytes. It is safe for concurrent use.
type Budget struct{ left atomic.Int64 }

// NewBudget makes a budget of n bytes.
func NewBudget(n int64) *Budget {
	b := &Budget{}
	b.left.Store(n)
	return b
}

// Take reports whether n more bytes fit, and takes them if they do.
func (b *Budget) Take(n int64) bool {
	for {
		left := b.left.Load()
		if n > left {
			return false
		}
		if b.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// reserve takes as much of n as there is, 0 when there is nothing left.
func (b *Budget) reserve(n int64) int64 {
	for {
		left := b.left.Load()
		granted := min(n, left)
		if granted <= 0 {
			return 0
		}
		if b.left.CompareAndSwap(left, left-granted) {
			return granted
		}
	}
}

func (b *Budget) giveBack(n int64) { b.left.Add(n) }

// most is the largest answer that still fits, at most limit and at least 1.
func (b *Budget) most(limit int64) int64 { return max(1, min(limit, b.left.Load())) }
