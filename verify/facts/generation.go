package facts

import (
	"encoding/binary"
	"errors"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// Two generations bound the file. Facts are written to the younger one. When it
// has reached half of what the file may hold, the elder one is dropped and a
// new one begins. A fact that is learned again moves to the younger one.

var (
	metaBucket       = []byte("meta")
	parentsBucket    = []byte("parents")
	manifestsBucket  = []byte("manifests")
	signaturesBucket = []byte("signatures")
	generations      = [2][]byte{[]byte("generation-0"), []byte("generation-1")}

	versionKey      = []byte("version")
	youngerKey      = []byte("younger")
	youngerBytesKey = []byte("younger-bytes")

	errMissingBuckets = errors.New("its buckets are missing")
)

// fill accounts for how much of a page bbolt leaves empty when keys come in no
// order: a generation's bytes count double against its share of the file.
const fill = 2

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

// writer writes to the younger generation in one transaction, and counts its
// bytes.
type writer struct {
	meta    *bolt.Bucket
	younger *bolt.Bucket
	elder   *bolt.Bucket
	bytes   int64

	rotated   bool            // it has begun a generation
	pushedOut []digest.Digest // parents, in favor of newer ones
}

// newWriter begins a generation when the younger one has reached its share of
// maxBytes.
func newWriter(tx *bolt.Tx, maxBytes int64) (*writer, error) {
	meta := tx.Bucket(metaBucket)
	w := &writer{meta: meta, bytes: int64(decodeNumber(meta.Get(youngerBytesKey)))}

	younger := decodeNumber(meta.Get(youngerKey)) % 2
	if w.bytes > maxBytes/2/fill {
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

// fact writes all of f.
func (w *writer) fact(f Fact) error {
	image := imageKey(f.Repository, f.Manifest.Digest)
	if len(f.Manifest.Bytes) <= MaxManifestBytes {
		if err := w.put(manifestsBucket, image, encodeManifest(f.Manifest)); err != nil {
			return err
		}
	}
	if f.Evidence != nil {
		if err := w.evidence(image, f.Evidence); err != nil {
			return err
		}
	}

	for _, d := range f.Parts.Manifests {
		if err := w.parent(partKey(f.Repository, PartManifest, d), f.Manifest.Digest); err != nil {
			return err
		}
	}
	for _, d := range f.Parts.Blobs {
		if err := w.parent(partKey(f.Repository, PartBlob, d), f.Manifest.Digest); err != nil {
			return err
		}
	}

	return w.meta.Put(youngerBytesKey, binary.AppendUvarint(nil, uint64(w.bytes)))
}

// evidence leaves the record as it is when e is too large.
func (w *writer) evidence(key []byte, e *Evidence) error {
	record, err := e.encode()
	if err != nil || record == nil {
		return err
	}
	return w.put(signaturesBucket, key, record)
}

// parent puts d first in the list of parents under key.
func (w *writer) parent(key []byte, d digest.Digest) error {
	record := w.younger.Bucket(parentsBucket).Get(key)
	if record == nil {
		record = w.elder.Bucket(parentsBucket).Get(key)
	}

	list := []digest.Digest{d}
	for _, known := range decodeDigests(record) {
		switch {
		case known == d:
		case len(list) < MaxParents:
			list = append(list, known)
		default:
			w.pushedOut = append(w.pushedOut, known)
		}
	}
	return w.put(parentsBucket, key, encodeDigests(list))
}

// put writes a record, unless the younger generation holds it already.
func (w *writer) put(bucket, key, record []byte) error {
	b := w.younger.Bucket(bucket)
	old := b.Get(key)
	if old != nil && string(old) == string(record) {
		return nil
	}

	if old == nil {
		w.bytes += int64(len(key))
	}
	w.bytes += int64(len(record) - len(old))
	return b.Put(key, record)
}

// read hands the record under key to use, from the younger generation or else
// the elder; nil when neither has it. The bytes are good only inside use.
func (b *Bolt) read(bucket, key []byte, use func(record []byte)) error {
	return b.db.View(func(tx *bolt.Tx) error {
		younger := decodeNumber(tx.Bucket(metaBucket).Get(youngerKey)) % 2
		for _, name := range [][]byte{generations[younger], generations[1-younger]} {
			g := tx.Bucket(name)
			if g == nil || g.Bucket(bucket) == nil {
				return errMissingBuckets
			}
			if record := g.Bucket(bucket).Get(key); record != nil {
				use(record)
				return nil
			}
		}
		use(nil)
		return nil
	})
}
