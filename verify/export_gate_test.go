package verify

import (
	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Learn writes into the state that parent lists parts, true or not: what a
// poisoned state says.
func (s *Store) Learn(repo policy.Repository, parent oci.Manifest, parts oci.Structure) error {
	_, _, err := s.learn(repo, parent, parts, nil)
	return err
}

// Occupy takes every slot for work that costs CPU. They are free again when
// free is called.
func (g *Gate) Occupy() (free func()) {
	for range cap(g.crypto) {
		g.crypto <- struct{}{}
	}
	return func() {
		for range cap(g.crypto) {
			<-g.crypto
		}
	}
}

// Syncs reports whether the state waits for the disk before a write counts.
func (s *Store) Syncs() bool { return !s.db.NoSync && !s.db.NoGrowSync }

// Config is what the gate was made of, for another one like it.
func (g *Gate) Config() Config { return g.config }
