package facts

import (
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
)

// fill accounts for how much of a page bbolt leaves empty when keys come in no
// order: the bytes of records count double against the size of the file.
const fill = 2

// shares is how many repositories may fill the state together without one of
// them being asked to make room for others.
const shares = 4

// writer writes facts in one transaction, and makes room for them.
type writer struct {
	tx    *bolt.Tx
	limit int64     // of all records, in bytes
	held  *holdings // as they will be when the transaction is committed
	now   time.Time

	epoch     uint64          // that the fact was written in
	pushedOut []digest.Digest // parents, in favor of newer ones
}

// fact writes all of f.
func (w *writer) fact(f Fact) error {
	if err := w.makeRoom(f.Repository); err != nil {
		return err
	}
	r, err := createRepository(w.tx, f.Repository)
	if err != nil {
		return err
	}

	if len(f.Manifest.Bytes) <= MaxManifestBytes {
		if err := r.put(imageKey(manifestRecord, f.Manifest.Digest), ManifestRecord(f.Manifest)); err != nil {
			return err
		}
	}
	if !f.SeenAt.IsZero() {
		if err := r.put(imageKey(seenRecord, f.Manifest.Digest), encodeTime(f.SeenAt)); err != nil {
			return err
		}
	}
	if f.Evidence != nil {
		if err := w.evidence(r, imageKey(signaturesRecord, f.Manifest.Digest), f.Evidence); err != nil {
			return err
		}
	}
	if err := w.parts(r, f); err != nil {
		return err
	}

	if err := r.setNumber(usedKey, uint64(max(0, w.now.Unix()))); err != nil {
		return err
	}
	w.held.set(f.Repository, r.size())
	w.epoch = w.held.use(f.Repository, w.now)
	return nil
}

// parts writes what f's manifest lists, and that it is an index.
func (w *writer) parts(r repository, f Fact) error {
	for _, d := range f.Parts.Manifests {
		if err := w.parent(r, partKey(PartManifest, d), f.Manifest.Digest); err != nil {
			return err
		}
	}
	for _, d := range f.Parts.Blobs {
		if err := w.parent(r, partKey(PartBlob, d), f.Manifest.Digest); err != nil {
			return err
		}
	}

	if len(f.Parts.Manifests) == 0 {
		return nil
	}
	known := r.indexes()
	if len(known) > 0 && known[0] == f.Manifest.Digest {
		return nil
	}
	list, _ := first(f.Manifest.Digest, known, MaxIndexes)
	return r.bucket.Put(indexesKey, encodeDigests(list))
}

// evidence leaves the record as it is when e is too large.
func (w *writer) evidence(r repository, key []byte, e *Evidence) error {
	record, err := e.Record()
	if err != nil || record == nil {
		return err
	}
	return r.put(key, record)
}

// parent puts d first in the list of parents under key.
func (w *writer) parent(r repository, key []byte, d digest.Digest) error {
	record, _, err := r.find(key)
	if err != nil {
		return err
	}

	list, rest := first(d, decodeDigests(record), MaxParents)
	w.pushedOut = append(w.pushedOut, rest...)
	return r.put(key, encodeDigests(list))
}

// first is list with d at its front, once, and what no longer fits into most.
func first(d digest.Digest, list []digest.Digest, most int) (kept, rest []digest.Digest) {
	kept = append([]digest.Digest{d}, slices.DeleteFunc(list, func(known digest.Digest) bool { return known == d })...)
	if len(kept) > most {
		kept, rest = kept[:most], kept[most:]
	}
	return kept, rest
}

// makeRoom begins a generation of repo when its younger one has half of what
// others leave to it, and has repositories forget until all of them fit.
func (w *writer) makeRoom(repo policy.Repository) error {
	r, ok, err := repositoryIn(w.tx, repo)
	if err != nil {
		return err
	}
	begun := ok && r.bytes(r.younger) > max(w.held.left(repo, w.limit), w.limit/shares/2)/2
	if begun {
		if err := w.forget(repo, r); err != nil {
			return err
		}
	}

	for {
		victim, ok := w.held.over(w.limit)
		if !ok || begun && victim == repo { // which would forget all it knows
			return nil
		}
		if err := w.forgetMore(victim); err != nil {
			return err
		}
	}
}

// forget drops the elder generation of a repository.
func (w *writer) forget(repo policy.Repository, r repository) error {
	if err := r.rotate(); err != nil {
		return err
	}

	w.held.set(repo, r.size())
	w.held.forgot(repo)
	return nil
}

// forgetMore drops the elder generation of a repository, or all of it when there
// is no elder one.
func (w *writer) forgetMore(repo policy.Repository) error {
	r, ok, err := repositoryIn(w.tx, repo)
	if err != nil {
		return err
	}
	if ok && r.bytes(1-r.younger) > 0 {
		return w.forget(repo, r)
	}

	if ok {
		if err := w.tx.Bucket(repositoriesBucket).DeleteBucket(repositoryKey(repo)); err != nil {
			return err
		}
	}
	w.held.set(repo, 0)
	return nil
}
