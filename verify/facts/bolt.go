package facts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
	held     *holdings

	told string // as the last process has left it

	asked   chan asked    // of what is to be forgotten soon, to be kept for longer
	closing chan struct{} // closed by Close
	close   sync.Once
	keeping sync.WaitGroup
}

var _ Store = (*Bolt)(nil)

// stateVersion names the format of the file: its buckets, keys and records.
const stateVersion = "3"

// formerVersion had two generations of all repositories together. What it holds
// is dropped: it is learned again.
const formerVersion = "2"

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

	b := &Bolt{
		db:       db,
		maxBytes: maxBytes,
		asked:    make(chan asked, maxAsked),
		closing:  make(chan struct{}),
	}
	if err := prepare(db, file); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if b.told, err = takeTold(db); err != nil {
		return nil, errors.Join(fmt.Errorf("write state %s: %w", file, err), db.Close())
	}
	if b.held, err = readHoldings(db); err != nil {
		return nil, errors.Join(fmt.Errorf("read state %s: %w", file, err), db.Close())
	}

	b.keeping.Go(b.keepAsked)
	return b, nil
}

// prepare checks the version of the state and creates what is missing.
func prepare(db *bolt.DB, file string) error {
	return db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		version := string(meta.Get(versionKey))
		switch version {
		case "", stateVersion:
		case formerVersion:
			for _, g := range []string{"generation-0", "generation-1"} {
				err := tx.DeleteBucket([]byte(g))
				if err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
					return err
				}
			}
		default:
			return fmt.Errorf(
				"state %s has format %q, this pullgate knows %q; move it away to start afresh",
				file, version, stateVersion)
		}

		if _, err := tx.CreateBucketIfNotExists(repositoriesBucket); err != nil {
			return err
		}
		return meta.Put(versionKey, []byte(stateVersion))
	})
}

// readHoldings reads how much of the state each repository holds.
func readHoldings(db *bolt.DB) (*holdings, error) {
	h := &holdings{by: map[policy.Repository]*holding{}}
	err := db.View(func(tx *bolt.Tx) error {
		all := tx.Bucket(repositoriesBucket)
		return all.ForEachBucket(func(name []byte) error {
			host, path, _ := strings.Cut(string(name), "/")
			repo := policy.Repository{Host: host, Path: path}
			r := repository{bucket: all.Bucket(name)}
			h.set(repo, r.size())
			h.use(repo, time.Unix(int64(r.number(usedKey)), 0))
			return nil
		})
	})
	return h, err
}

// Close releases the state file.
func (b *Bolt) Close() error {
	b.close.Do(func() { close(b.closing) })
	b.keeping.Wait()
	return b.db.Close()
}

// Epoch implements Store.
func (b *Bolt) Epoch(_ context.Context, repo policy.Repository) uint64 {
	return b.held.use(repo, time.Now())
}

// Learn implements Store. Facts that are learned at once share a write.
func (b *Bolt) Learn(_ context.Context, f Fact) (Learned, error) {
	var wrote *writer
	err := b.db.Batch(func(tx *bolt.Tx) error { // which may run this more than once
		wrote = &writer{
			tx:    tx,
			limit: b.maxBytes / fill,
			held:  b.held,
			now:   time.Now(),
		}
		return wrote.fact(f)
	})
	if err != nil {
		return Learned{}, err
	}
	return Learned{Epoch: wrote.epoch, PushedOut: wrote.pushedOut}, nil
}

// Indexes implements Store.
func (b *Bolt) Indexes(_ context.Context, repo policy.Repository) (list []digest.Digest, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		r, ok, err := repositoryIn(tx, repo)
		if ok {
			list = r.indexes()
		}
		return err
	})
	return list, err
}

// Parents implements Store.
func (b *Bolt) Parents(
	_ context.Context,
	repo policy.Repository,
	kind PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	var list []digest.Digest
	elder, err := b.read(repo, partKey(kind, d), func(record []byte) {
		list = decodeDigests(record)
	})
	b.held.use(repo, time.Now())
	if elder {
		b.keep(asked{repo, kind, d})
	}
	return list, err
}

// Manifest implements Store.
func (b *Bolt) Manifest(
	_ context.Context,
	repo policy.Repository,
	d digest.Digest,
) (m oci.Manifest, ok bool, err error) {
	_, err = b.read(repo, imageKey(manifestRecord, d), func(record []byte) {
		m, ok = ReadManifest(record, d)
	})
	return m, ok, err
}

// Seen implements Store.
func (b *Bolt) Seen(_ context.Context, repo policy.Repository, d digest.Digest) (at time.Time, err error) {
	_, err = b.read(repo, imageKey(seenRecord, d), func(record []byte) { at = decodeTime(record) })
	return at, err
}

// Evidence implements Store.
func (b *Bolt) Evidence(
	_ context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
	maxAge time.Duration,
) (Evidence, error) {
	var e Evidence
	_, err := b.read(repo, imageKey(signaturesRecord, d), func(record []byte) {
		e = ReadEvidence(record)
	})
	if err != nil {
		return Evidence{}, err
	}
	return e.Within(now, maxAge), nil
}

// read hands the record under key to use; nil when there is none. The bytes are
// good only inside use. elder means that the record will be forgotten first.
func (b *Bolt) read(repo policy.Repository, key []byte, use func(record []byte)) (elder bool, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		r, ok, err := repositoryIn(tx, repo)
		if err != nil {
			return err
		}

		var record []byte
		if ok {
			if record, elder, err = r.find(key); err != nil {
				return err
			}
		}
		use(record)
		return nil
	})
	return elder, err
}
