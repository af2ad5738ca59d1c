package facts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

// Bolt is the Store in a file of this machine, for one process at a time. It
// waits for nothing but the disk and ignores contexts. Safe for concurrent use.
type Bolt struct {
	db       *bolt.DB
	maxBytes int64
	rotated  atomic.Uint64 // generations begun by this process
}

var _ Store = (*Bolt)(nil)

// stateVersion names the format of the file: its buckets, keys and records.
const stateVersion = "2"

// fileName is the state file in its folder.
const fileName = "facts.db"

// OpenBolt opens or creates the state in the folder dir. The file will hold
// about maxBytes. While another process has it open, OpenBolt waits a second
// and returns an error that says so.
func OpenBolt(dir string, maxBytes int64) (*Bolt, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create state folder: %w", err)
	}

	file := filepath.Join(dir, fileName)
	db, err := bolt.Open(file, 0o600, &bolt.Options{
		Timeout:        time.Second,
		FreelistType:   bolt.FreelistMapType,
		NoFreelistSync: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf(
			"state %s is in use by another pullgate; stop that one, or give this one its own state.path", file)
	}
	if err != nil {
		return nil, fmt.Errorf(
			"open state %s: %w; it holds nothing that cannot be learnt again: move it away to start afresh", file, err)
	}
	db.MaxBatchDelay = time.Millisecond // a lone pull waits no longer for company

	if err := prepare(db, file); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Bolt{db: db, maxBytes: maxBytes}, nil
}

// prepare checks the version of the state and creates what is missing.
func prepare(db *bolt.DB, file string) error {
	return db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if v := meta.Get(versionKey); v != nil && string(v) != stateVersion {
			return fmt.Errorf(
				"state %s has format %q, this pullgate knows %q; move it away to start afresh", file, v, stateVersion)
		}

		for _, g := range generations {
			if err := createGeneration(tx, g); err != nil {
				return err
			}
		}
		return meta.Put(versionKey, []byte(stateVersion))
	})
}

// Close releases the state file.
func (b *Bolt) Close() error { return b.db.Close() }

// Epoch implements Store: it counts generations.
func (b *Bolt) Epoch(context.Context) uint64 { return b.rotated.Load() + 1 }

// Learn implements Store. Facts that are learned at once share a write.
func (b *Bolt) Learn(ctx context.Context, f Fact) (Learned, error) {
	var wrote *writer
	err := b.db.Batch(func(tx *bolt.Tx) error { // which may run this more than once
		w, err := newWriter(tx, b.maxBytes)
		if err != nil {
			return err
		}
		wrote = w
		return w.fact(f)
	})
	if err != nil {
		return Learned{}, err
	}

	if wrote.rotated {
		b.rotated.Add(1)
	}
	return Learned{Epoch: b.Epoch(ctx), PushedOut: wrote.pushedOut}, nil
}

// Parents implements Store.
func (b *Bolt) Parents(
	_ context.Context,
	repo policy.Repository,
	kind PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	var list []digest.Digest
	err := b.read(parentsBucket, partKey(repo, kind, d), func(record []byte) {
		list = decodeDigests(record)
	})
	return list, err
}

// Manifest implements Store.
func (b *Bolt) Manifest(
	_ context.Context,
	repo policy.Repository,
	d digest.Digest,
) (m oci.Manifest, ok bool, err error) {
	err = b.read(manifestsBucket, imageKey(repo, d), func(record []byte) {
		m, ok = decodeManifest(record, d)
	})
	return m, ok, err
}

// Evidence implements Store.
func (b *Bolt) Evidence(
	_ context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
	maxAge time.Duration,
) ([]Signature, error) {
	var e Evidence
	err := b.read(signaturesBucket, imageKey(repo, d), func(record []byte) {
		e = decodeEvidence(record)
	})
	if err != nil {
		return nil, err
	}
	return e.within(now, maxAge), nil
}
