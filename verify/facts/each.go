package facts

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/oci"
)

const (
	eachBatch = 32 // manifests read in one transaction, which keeps the file from growing

	// maxEachParts bounds the parts of a manifest that Each reads. A gate with a
	// higher limits.descriptors writes the rest when the image is pulled.
	maxEachParts = 10_000
)

// Each calls do with the facts about every manifest that the store has bytes of,
// in no order, and ends at do's first error. It does not hold up those who learn
// meanwhile. What was learned after it began may be left out.
func (b *Bolt) Each(ctx context.Context, do func(Fact) error) error {
	repos, err := b.repositories()
	if err != nil {
		return err
	}
	for _, repo := range repos {
		for g := range generations {
			if err := b.eachOf(ctx, repo, g, do); err != nil {
				return err
			}
		}
	}
	return nil
}

// repositories lists the repositories that the store knows something of.
func (b *Bolt) repositories() (list []policy.Repository, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		all := tx.Bucket(repositoriesBucket)
		if all == nil {
			return errMissingBuckets
		}
		return all.ForEachBucket(func(name []byte) error {
			host, path, _ := strings.Cut(string(name), "/")
			list = append(list, policy.Repository{Host: host, Path: path})
			return nil
		})
	})
	return list, err
}

// eachOf is Each for one generation of one repository.
func (b *Bolt) eachOf(ctx context.Context, repo policy.Repository, generation int, do func(Fact) error) error {
	from := []byte{manifestRecord}
	for from != nil {
		var found []Fact
		err := b.db.View(func(tx *bolt.Tx) (err error) {
			found, from, err = someFacts(tx, repo, generation, from)
			return err
		})
		if err != nil {
			return err
		}

		for _, f := range found {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := do(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// someFacts reads a batch of manifests from a key on, and the key to go on from;
// nil at the end.
func someFacts(
	tx *bolt.Tx,
	repo policy.Repository,
	generation int,
	from []byte,
) (found []Fact, next []byte, err error) {
	r, ok, err := repositoryIn(tx, repo)
	if !ok || err != nil {
		return nil, nil, err
	}
	bucket := r.bucket.Bucket(generations[generation])
	if bucket == nil {
		return nil, nil, errMissingBuckets
	}

	cursor := bucket.Cursor()
	for key, record := cursor.Seek(from); bytes.HasPrefix(key, []byte{manifestRecord}); key, record = cursor.Next() {
		if len(found) == eachBatch {
			return found, slices.Clone(key), nil
		}
		m, ok := ReadManifest(record, digest.Digest(key[1:]))
		if !ok {
			continue
		}
		parts, err := oci.ParseManifest(m.Bytes, m.MediaType, maxEachParts)
		if err != nil {
			continue
		}
		m.MediaType = parts.MediaType

		f := Fact{Repository: repo, Manifest: m, Parts: parts}
		if record, _, err := r.find(imageKey(signaturesRecord, m.Digest)); err == nil && record != nil {
			if e := ReadEvidence(record); !e.FetchedAt.IsZero() {
				f.Evidence = &e
			}
		}
		if record, _, err := r.find(imageKey(seenRecord, m.Digest)); err == nil {
			f.SeenAt = decodeTime(record)
		}
		found = append(found, f)
	}
	return found, nil, nil
}
