package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pullgate/pullgate/policy"
)

// Store remembers structure: which admitted manifest lists which parts. It
// holds facts, never permissions: whatever it says is checked against the
// parent's bytes and judged again, so a poisoned store can deny, not admit.
// It is safe for concurrent use.
type Store struct {
	db *bolt.DB
}

const (
	stateVersion = "1"
	// keptParents bounds the parents remembered of one part, newest first.
	keptParents = 64
	// keptManifest is the largest manifest kept beside its facts, in bytes;
	// bigger ones are fetched again by digest.
	keptManifest = 256 << 10
)

var (
	parentsBucket   = []byte("parents")
	manifestsBucket = []byte("manifests")
	metaBucket      = []byte("meta")
)

// OpenStore opens or creates the state in the folder dir. One process at a
// time: a second one gets an error that says so after a second.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create state folder: %w", err)
	}
	file := filepath.Join(dir, "facts.db")
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("state %s is in use by another pullgate; stop that one, or give this one its own state.path", file)
	}
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", file, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{parentsBucket, manifestsBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		if v := meta.Get([]byte("version")); v != nil && string(v) != stateVersion {
			return fmt.Errorf("state %s has format %q, this pullgate knows %q; move it away to start afresh", file, v, stateVersion)
		}
		return meta.Put([]byte("version"), []byte(stateVersion))
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{db: db}, nil
}

// Close releases the state file.
func (s *Store) Close() error { return s.db.Close() }

type partKind byte

const (
	partManifest partKind = 'm'
	partBlob     partKind = 'b'
)

func partKey(repo policy.Repository, kind partKind, d digest.Digest) []byte {
	key := append([]byte(repo.String()), 0, byte(kind))
	return append(key, d...)
}

// learn records that parent, with these bytes, lists parts in repo. When it
// returns nil the facts are on disk.
func (s *Store) learn(repo policy.Repository, parent Manifest, parts Structure) error {
	return s.db.Batch(func(tx *bolt.Tx) error {
		if len(parent.Bytes) <= keptManifest {
			value := append([]byte(parent.MediaType), 0)
			if err := putNew(tx.Bucket(manifestsBucket), []byte(parent.Digest), append(value, parent.Bytes...)); err != nil {
				return err
			}
		}
		bucket := tx.Bucket(parentsBucket)
		for _, d := range parts.Manifests {
			if err := addParent(bucket, partKey(repo, partManifest, d), parent.Digest); err != nil {
				return err
			}
		}
		for _, d := range parts.Blobs {
			if err := addParent(bucket, partKey(repo, partBlob, d), parent.Digest); err != nil {
				return err
			}
		}
		return nil
	})
}

func putNew(b *bolt.Bucket, key, value []byte) error {
	if b.Get(key) != nil {
		return nil
	}
	return b.Put(key, value)
}

// addParent puts parent first in the list under key. A list is a sequence of
// length-prefixed digests.
func addParent(b *bolt.Bucket, key []byte, parent digest.Digest) error {
	old := decodeDigests(b.Get(key))
	if len(old) > 0 && old[0] == parent {
		return nil
	}
	list := []digest.Digest{parent}
	for _, d := range old {
		if d != parent && len(list) < keptParents {
			list = append(list, d)
		}
	}
	var value []byte
	for _, d := range list {
		value = binary.AppendUvarint(value, uint64(len(d)))
		value = append(value, d...)
	}
	return b.Put(key, value)
}

func decodeDigests(b []byte) []digest.Digest {
	var list []digest.Digest
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return list // a torn or foreign value: what was read is still only a hint
		}
		list = append(list, digest.Digest(b[used:used+int(n)]))
		b = b[used+int(n):]
	}
	return list
}

// parents lists the remembered parents of a part, newest first.
func (s *Store) parents(repo policy.Repository, kind partKind, d digest.Digest) ([]digest.Digest, error) {
	var list []digest.Digest
	err := s.db.View(func(tx *bolt.Tx) error {
		list = decodeDigests(tx.Bucket(parentsBucket).Get(partKey(repo, kind, d)))
		return nil
	})
	return list, err
}

// manifest returns kept bytes, hashed and compared; ok is false when they are
// not kept or no longer what they were.
func (s *Store) manifest(d digest.Digest) (m Manifest, ok bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		value := tx.Bucket(manifestsBucket).Get([]byte(d))
		for i, c := range value {
			if c == 0 {
				m = Manifest{Bytes: append([]byte(nil), value[i+1:]...), MediaType: string(value[:i]), Digest: d}
				break
			}
		}
		return nil
	})
	if err != nil || m.Bytes == nil || d.Algorithm().FromBytes(m.Bytes) != d {
		return Manifest{}, false, err
	}
	return m, true, nil
}
