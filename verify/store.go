package verify

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"

	bolt "go.etcd.io/bbolt"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

// Store remembers structure: which admitted manifest lists which parts. It
// holds facts, never permissions: whatever it says is checked against the
// parent's bytes and judged again, so a poisoned store can deny, not admit.
// It is safe for concurrent use.
//
// Two generations bound it: facts are written to the younger one; when that
// has reached half of what is allowed, the elder is dropped and a new one
// begun. What is pulled or verified again moves to the younger one.
type Store struct {
	db       *bolt.DB
	maxBytes int64
	rotated  atomic.Uint64 // generations begun by this process
}

const (
	stateVersion = "2"
	// keptParents bounds the parents remembered of one part, newest first.
	keptParents = 64
	// keptManifest is the largest manifest kept beside its facts, in bytes;
	// bigger ones are fetched again by digest.
	keptManifest = 256 << 10
	// keptSignatures is the largest set of signatures kept for one image.
	keptSignatures = 64 << 10
	// fill is how much of a page bbolt leaves empty when keys come in no order:
	// a generation's bytes count double against its share of the file.
	fill = 2
)

var (
	metaBucket        = []byte("meta")
	parentsBucket     = []byte("parents")
	manifestsBucket   = []byte("manifests")
	signaturesBucket  = []byte("signatures")
	generations       = [2][]byte{[]byte("generation-0"), []byte("generation-1")}
	versionKey        = []byte("version")
	youngerKey        = []byte("younger")
	youngerBytesKey   = []byte("younger-bytes")
	errMissingBuckets = errors.New("its buckets are missing")
)

// OpenStore opens or creates the state in the folder dir, which will hold
// about maxBytes. One process at a time: a second one gets an error that says
// so after a second.
func OpenStore(dir string, maxBytes int64) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create state folder: %w", err)
	}
	file := filepath.Join(dir, "facts.db")
	db, err := bolt.Open(file, 0o600, &bolt.Options{
		Timeout:        time.Second,
		FreelistType:   bolt.FreelistMapType,
		NoFreelistSync: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf(
			"state %s is in use by another pullgate; stop that one, or give this one its own state.path",
			file,
		)
	}
	if err != nil {
		return nil, fmt.Errorf(
			"open state %s: %w; it holds nothing that cannot be learnt again: move it away to start afresh",
			file,
			err,
		)
	}
	db.MaxBatchDelay = time.Millisecond // a lone pull waits no longer for company
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if v := meta.Get(versionKey); v != nil && string(v) != stateVersion {
			return fmt.Errorf(
				"state %s has format %q, this pullgate knows %q; move it away to start afresh",
				file,
				v,
				stateVersion,
			)
		}
		for _, g := range generations {
			if err := createGeneration(tx, g); err != nil {
				return err
			}
		}
		return meta.Put(versionKey, []byte(stateVersion))
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{db: db, maxBytes: maxBytes}, nil
}

func createGeneration(tx *bolt.Tx, name []byte) error {
	g, err := tx.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	for _, b := range [][]byte{parentsBucket, manifestsBucket, signaturesBucket} {
		if _, err := g.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	return nil
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

func storeKey(repo policy.Repository, d digest.Digest) []byte {
	return append(append([]byte(repo.String()), 0), d...)
}

// epoch is the time, never 0, by which the store counts: what was written in
// one is not forgotten in the same.
func (s *Store) epoch() uint64 { return s.rotated.Load() + 1 }

// learn records that parent, with these bytes, lists parts in repo, and the
// signatures that made it count. When it returns nil all of it is on disk, from
// the epoch it returns on. pushedOut are parents that were forgotten for a part
// because newer ones took their place.
func (s *Store) learn(
	repo policy.Repository,
	parent oci.Manifest,
	parts oci.Structure,
	signed *kept,
) (epoch uint64, pushedOut []digest.Digest, err error) {
	rotated := false
	err = s.db.Batch(func(tx *bolt.Tx) error {
		w, err := s.writer(tx)
		if err != nil {
			return err
		}
		defer func() { rotated, pushedOut = w.rotated, w.pushedOut }()
		if len(parent.Bytes) <= keptManifest {
			value := append([]byte(parent.MediaType), 0)
			if err := w.put(
				manifestsBucket,
				storeKey(repo, parent.Digest),
				append(value, parent.Bytes...),
			); err != nil {
				return err
			}
		}
		if signed != nil {
			if err := w.keep(storeKey(repo, parent.Digest), signed); err != nil {
				return err
			}
		}
		for _, d := range parts.Manifests {
			if err := w.addParent(partKey(repo, partManifest, d), parent.Digest); err != nil {
				return err
			}
		}
		for _, d := range parts.Blobs {
			if err := w.addParent(partKey(repo, partBlob, d), parent.Digest); err != nil {
				return err
			}
		}
		return w.done()
	})
	if err == nil && rotated {
		s.rotated.Add(1)
	}
	return s.epoch(), pushedOut, err
}

// writer writes to the younger generation and counts.
type writer struct {
	tx      *bolt.Tx
	younger *bolt.Bucket
	elder   *bolt.Bucket
	bytes   int64

	rotated   bool
	pushedOut []digest.Digest
}

func (s *Store) writer(tx *bolt.Tx) (*writer, error) {
	meta := tx.Bucket(metaBucket)
	w := &writer{tx: tx, bytes: int64(decodeNumber(meta.Get(youngerBytesKey)))}
	younger := decodeNumber(meta.Get(youngerKey)) % 2
	if w.bytes > s.maxBytes/2/fill {
		younger, w.bytes, w.rotated = 1-younger, 0, true
		if err := tx.DeleteBucket(generations[younger]); err != nil {
			return nil, err
		}
		if err := createGeneration(tx, generations[younger]); err != nil {
			return nil, err
		}
		if err := meta.Put(youngerKey, binary.AppendUvarint(nil, younger)); err != nil {
			return nil, err
		}
	}
	w.younger, w.elder = tx.Bucket(generations[younger]), tx.Bucket(generations[1-younger])
	return w, nil
}

func (w *writer) done() error {
	return w.tx.Bucket(metaBucket).Put(youngerBytesKey, binary.AppendUvarint(nil, uint64(w.bytes)))
}

func decodeNumber(b []byte) uint64 {
	n, used := binary.Uvarint(b)
	if used <= 0 {
		return 0
	}
	return n
}

func (w *writer) put(bucket, key, value []byte) error {
	b := w.younger.Bucket(bucket)
	old := b.Get(key)
	if old != nil && string(old) == string(value) {
		return nil
	}
	if old == nil {
		w.bytes += int64(len(key))
	}
	w.bytes += int64(len(value) - len(old))
	return b.Put(key, value)
}

// addParent puts parent first in the list under key. A list is a sequence of
// length-prefixed digests.
func (w *writer) addParent(key []byte, parent digest.Digest) error {
	known := w.younger.Bucket(parentsBucket).Get(key)
	if known == nil {
		known = w.elder.Bucket(parentsBucket).Get(key)
	}
	list := []digest.Digest{parent}
	for _, d := range decodeDigests(known) {
		switch {
		case d == parent:
		case len(list) < keptParents:
			list = append(list, d)
		default:
			w.pushedOut = append(w.pushedOut, d)
		}
	}
	var value []byte
	for _, d := range list {
		value = binary.AppendUvarint(value, uint64(len(d)))
		value = append(value, d...)
	}
	return w.put(parentsBucket, key, value)
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

// read hands the value under key to use, from the younger generation or the
// elder; nil when neither has it. The bytes are only good inside use.
func (s *Store) read(bucket, key []byte, use func(value []byte)) error {
	return s.db.View(func(tx *bolt.Tx) error {
		younger := decodeNumber(tx.Bucket(metaBucket).Get(youngerKey)) % 2
		for _, g := range [][]byte{generations[younger], generations[1-younger]} {
			b := tx.Bucket(g)
			if b == nil || b.Bucket(bucket) == nil {
				return errMissingBuckets
			}
			if value := b.Bucket(bucket).Get(key); value != nil {
				use(value)
				return nil
			}
		}
		use(nil)
		return nil
	})
}

// parents lists the remembered parents of a part, newest first.
func (s *Store) parents(repo policy.Repository, kind partKind, d digest.Digest) ([]digest.Digest, error) {
	var list []digest.Digest
	err := s.read(parentsBucket, partKey(repo, kind, d), func(value []byte) { list = decodeDigests(value) })
	return list, err
}

// manifest returns kept bytes, hashed and compared; ok is false when they are
// not kept or no longer what they were.
func (s *Store) manifest(repo policy.Repository, d digest.Digest) (m oci.Manifest, ok bool, err error) {
	err = s.read(manifestsBucket, storeKey(repo, d), func(value []byte) {
		for i, c := range value {
			if c == 0 {
				m = oci.Manifest{Bytes: append([]byte(nil), value[i+1:]...), MediaType: string(value[:i]), Digest: d}
				return
			}
		}
	})
	if err != nil || m.Bytes == nil || d.Algorithm().FromBytes(m.Bytes) != d {
		return oci.Manifest{}, false, err
	}
	return m, true, nil
}

// kept are the signatures that made an image count, as they were found. They
// are verified again whenever they are used: a poisoned store admits nothing.
type kept struct {
	At         time.Time        `json:"at"` // when the registry last had them
	Signatures []sigs.Candidate `json:"signatures"`
}

func (w *writer) keep(key []byte, k *kept) error {
	b, err := json.Marshal(k)
	if err != nil || len(b) > keptSignatures {
		return err
	}
	return w.put(signaturesBucket, key, b)
}

// signatures returns what was kept for d, at most maxAge old at now.
func (s *Store) signatures(
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
	maxAge time.Duration,
) ([]sigs.Candidate, error) {
	var k kept
	err := s.read(signaturesBucket, storeKey(repo, d), func(value []byte) {
		if json.Unmarshal(value, &k) != nil {
			k = kept{} // a foreign value is none
		}
	})
	age := now.Sub(k.At)
	if err != nil || age > maxAge || age < 0 {
		return nil, err
	}
	return k.Signatures, nil
}
