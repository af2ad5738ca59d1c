package clients

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

// sum stands for credentials in memory: none is kept as it is.
type sum [sha256.Size]byte

// sealer makes sums under a key that only this process knows, and only until it
// ends: a memory dump's sums are of no use elsewhere.
type sealer struct{ key [sha256.Size]byte }

func newSealer() *sealer {
	s := &sealer{}
	_, _ = rand.Read(s.key[:]) // never fails: crypto/rand
	return s
}

// seal returns the sum of parts. Each has its length before it, so that no two
// lists sum alike.
func (s *sealer) seal(parts ...string) (sealed sum) {
	h := hmac.New(sha256.New, s.key[:])
	for _, part := range parts {
		writePart(h, part)
	}
	h.Sum(sealed[:0])
	return sealed
}

func writePart(h hash.Hash, part string) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(part)))
	h.Write(length[:])
	h.Write([]byte(part))
}

// memory keeps what was found out about credentials, each until its own end.
// When it is full, it begins afresh: that costs time, never an answer. Its
// methods are safe for concurrent use.
type memory[V any] struct {
	mu    sync.Mutex
	limit int
	kept  map[sum]kept[V]
}

type kept[V any] struct {
	value V
	until time.Time
}

func newMemory[V any](limit int) *memory[V] {
	return &memory[V]{limit: limit, kept: map[sum]kept[V]{}}
}

func (m *memory[V]) get(of sum, now time.Time) (value V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()

	found, ok := m.kept[of]
	if !ok || !now.Before(found.until) {
		return value, false
	}
	return found.value, true
}

func (m *memory[V]) put(of sum, value V, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()

	if len(m.kept) >= m.limit {
		clear(m.kept)
	}
	m.kept[of] = kept[V]{value, until}
}
