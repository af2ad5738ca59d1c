package facts

import (
	"bytes"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
)

const (
	maxAsked = 256 // parts that wait to be kept; more are kept when they are asked for again
	maxKept  = 64  // manifests kept with one part
)

// asked is a part whose parents were asked for, and are in the elder generation.
type asked struct {
	repo   policy.Repository
	kind   PartKind
	digest digest.Digest
}

// keep has the facts about a part move to the younger generation, some time.
func (b *Bolt) keep(part asked) {
	select {
	case b.asked <- part:
	default:
	}
}

// keepAsked moves what was asked for until the state is closed. It is a service:
// what fails is asked for again.
func (b *Bolt) keepAsked() {
	for {
		var parts []asked
		select {
		case <-b.closing:
			return
		case part := <-b.asked:
			parts = append(parts, part)
		}
		for len(parts) < maxAsked && len(b.asked) > 0 { // one write for all that wait
			parts = append(parts, <-b.asked)
		}

		_ = b.db.Update(func(tx *bolt.Tx) error {
			for _, part := range parts {
				if err := b.moveUp(tx, part); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// moveUp copies the facts that admit a part to the younger generation: which
// manifests list it, these manifests with their signatures, and what lists them.
func (b *Bolt) moveUp(tx *bolt.Tx, part asked) error {
	r, ok, err := repositoryIn(tx, part.repo)
	if !ok || err != nil {
		return err
	}

	moved := 0
	keys := [][]byte{partKey(part.kind, part.digest)}
	for len(keys) > 0 && moved < maxKept {
		record, elder, err := r.find(keys[0])
		if err != nil {
			return err
		}
		if elder {
			if err := r.put(keys[0], bytes.Clone(record)); err != nil {
				return err
			}
		}

		keys = keys[1:]
		for _, d := range decodeDigests(record) {
			if err := moveManifest(r, d); err != nil {
				return err
			}
			keys = append(keys, partKey(PartManifest, d))
			moved++
		}
	}

	b.held.set(part.repo, r.size())
	return nil
}

func moveManifest(r repository, d digest.Digest) error {
	for _, kind := range []byte{manifestRecord, signaturesRecord, seenRecord} {
		record, elder, err := r.find(imageKey(kind, d))
		if err != nil {
			return err
		}
		if !elder {
			continue
		}
		if err := r.put(imageKey(kind, d), bytes.Clone(record)); err != nil {
			return err
		}
	}
	return nil
}
