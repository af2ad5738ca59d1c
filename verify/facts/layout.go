package facts

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
)

// This file is what the state file looks like: one bucket for each repository,
// with what is known of it as a whole, and two generations of its records.
// Facts are written to the younger generation; the elder one is forgotten first.

var (
	metaBucket         = []byte("meta")
	repositoriesBucket = []byte("repositories")

	versionKey = []byte("version")
	toldKey    = []byte("told") // where all that the file holds is written too

	// Of a repository.
	generations = [2][]byte{[]byte("0"), []byte("1")}
	bytesKeys   = [2][]byte{[]byte("bytes-0"), []byte("bytes-1")} // of the generations
	youngerKey  = []byte("younger")
	usedKey     = []byte("used") // when something was last learned, in Unix seconds
	indexesKey  = []byte("indexes")

	errMissingBuckets = errors.New("its buckets are missing")
)

// The first byte of a record's key in a generation.
const (
	parentsRecord    = 'p' // of a part: then its PartKind, then its digest
	manifestRecord   = 'm'
	signaturesRecord = 's'
	seenRecord       = 't'
)

// perRepository is about what bbolt needs for a repository beside its records.
const perRepository = 4096

func partKey(kind PartKind, d digest.Digest) []byte {
	return append([]byte{parentsRecord, byte(kind)}, d...)
}

func imageKey(record byte, d digest.Digest) []byte { return append([]byte{record}, d...) }

func repositoryKey(repo policy.Repository) []byte { return []byte(repo.String()) }

// repository is the bucket of one repository, in one transaction.
type repository struct {
	bucket  *bolt.Bucket
	younger int // of generations
}

// repositoryIn finds a repository's bucket; ok is false when nothing is known of
// it.
func repositoryIn(tx *bolt.Tx, repo policy.Repository) (r repository, ok bool, err error) {
	all := tx.Bucket(repositoriesBucket)
	if all == nil {
		return repository{}, false, errMissingBuckets
	}

	r.bucket = all.Bucket(repositoryKey(repo))
	if r.bucket == nil {
		return repository{}, false, nil
	}
	r.younger = int(r.number(youngerKey) % 2)
	return r, true, nil
}

// createRepository finds a repository's bucket, or makes one.
func createRepository(tx *bolt.Tx, repo policy.Repository) (repository, error) {
	r, ok, err := repositoryIn(tx, repo)
	if ok || err != nil {
		return r, err
	}

	r.bucket, err = tx.Bucket(repositoriesBucket).CreateBucket(repositoryKey(repo))
	if err != nil {
		return repository{}, err
	}
	for _, g := range generations {
		if _, err := r.bucket.CreateBucket(g); err != nil {
			return repository{}, err
		}
	}
	return r, nil
}

// find returns the record under key, from the younger generation or else the
// elder; nil when neither has it. The bytes are good only inside the
// transaction.
func (r repository) find(key []byte) (record []byte, elder bool, err error) {
	for _, i := range []int{r.younger, 1 - r.younger} {
		g := r.bucket.Bucket(generations[i])
		if g == nil {
			return nil, false, errMissingBuckets
		}
		if record := g.Get(key); record != nil {
			return record, i != r.younger, nil
		}
	}
	return nil, false, nil
}

// put writes a record, unless the younger generation holds it already.
func (r repository) put(key, record []byte) error {
	g := r.bucket.Bucket(generations[r.younger])
	if g == nil {
		return errMissingBuckets
	}
	old := g.Get(key)
	if old != nil && string(old) == string(record) {
		return nil
	}

	grown := int64(len(record) - len(old))
	if old == nil {
		grown += int64(len(key))
	}
	if err := r.setNumber(bytesKeys[r.younger], uint64(max(0, r.bytes(r.younger)+grown))); err != nil {
		return err
	}
	return g.Put(key, record)
}

// rotate forgets the elder generation and begins a new younger one.
func (r *repository) rotate() error {
	elder := 1 - r.younger
	if err := r.bucket.DeleteBucket(generations[elder]); err != nil {
		return err
	}
	if _, err := r.bucket.CreateBucket(generations[elder]); err != nil {
		return err
	}

	r.younger = elder
	if err := r.setNumber(bytesKeys[elder], 0); err != nil {
		return err
	}
	return r.setNumber(youngerKey, uint64(elder))
}

func (r repository) bytes(generation int) int64 { return int64(r.number(bytesKeys[generation])) }

func (r repository) size() int64 { return r.bytes(0) + r.bytes(1) + perRepository }

func (r repository) number(key []byte) uint64 { return decodeNumber(r.bucket.Get(key)) }

func (r repository) setNumber(key []byte, n uint64) error {
	return r.bucket.Put(key, binary.AppendUvarint(nil, n))
}

func (r repository) indexes() []digest.Digest { return decodeDigests(r.bucket.Get(indexesKey)) }

func encodeTime(t time.Time) []byte { return binary.AppendUvarint(nil, uint64(max(0, t.Unix()))) }

// decodeTime is the zero time for a record that is none.
func decodeTime(record []byte) time.Time {
	if n := decodeNumber(record); n > 0 {
		return time.Unix(int64(n), 0)
	}
	return time.Time{}
}
