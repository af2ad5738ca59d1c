package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"go.opentelemetry.io/otel/metric"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/oci"
)

// noEpoch is the epoch of a repository of which this process has learned nothing.
const noEpoch = 1 << 62

// closeTimeout bounds how long Close waits; pgx would take 15 s.
const closeTimeout = time.Second

// maxKnown bounds the repositories that a process remembers to have learned of.
const maxKnown = 1 << 16

// ErrUnreadable means that the database holds something that no gate has written.
var ErrUnreadable = errors.New("the database holds what no gate has written")

// Store is the facts in the database. It waits for the database as long as the
// context allows, and not at all while the circuit is open. Safe for concurrent
// use.
type Store struct {
	pool    *pgxpool.Pool
	names   names
	id      []byte // of this replica
	circuit circuit
	measure *measure

	mu    sync.Mutex
	epoch uint64
	known map[policy.Repository]bool // what was learned in this epoch
}

var _ facts.Store = (*Store)(nil)

// Open returns the store without asking the database; Pulse does that first. A nil
// meter measures nothing.
func Open(c Config, meter metric.MeterProvider) (*Store, error) {
	config, err := c.pool()
	if err != nil {
		return nil, err
	}
	s := &Store{
		names: names{c.Namespace},
		id:    make([]byte, identityBytes),
		epoch: 1,
		known: map[policy.Repository]bool{},
	}
	_, _ = rand.Read(s.id) // never fails
	if s.measure, err = newMeasure(meter, &s.circuit); err != nil {
		return nil, err
	}

	// The pool connects when it is asked.
	if s.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the connections. It does not wait long for a server that does not
// take the end of one.
func (s *Store) Close() error {
	closed := make(chan struct{})
	go func() {
		s.pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
	return s.measure.Close()
}

// Sealed reports whether times that come from the database were written by a gate
// of this namespace.
func (s *Store) Sealed() bool { return len(s.names.secret) > 0 }

// Epoch implements facts.Store. Only Forget changes it.
func (s *Store) Epoch(_ context.Context, repo policy.Repository) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.known[repo] {
		return s.epoch
	}
	return noEpoch
}

// Forget begins an epoch: what was learned before may not be there any more.
func (s *Store) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.epoch++
	clear(s.known)
}

// learned notes that something of repo was written in epoch, and returns the one
// that holds now.
func (s *Store) learned(repo policy.Repository, epoch uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if epoch == s.epoch {
		if len(s.known) >= maxKnown {
			clear(s.known)
		}
		s.known[repo] = true
	}
	return epoch
}

// Era counts how often Forget was called, from one.
func (s *Store) Era() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// A list begins with what was learned last. What is there already and young is left
// as it is: most of what is learned is.
const (
	fullLists = `
SELECT substring(digests from 1 for $2) FROM pullgate_lists WHERE key = ANY($1) AND octet_length(digests) > $3`

	writeLists = `
INSERT INTO pullgate_lists AS l (key, digests)
SELECT n.key, $2::bytea FROM unnest($1::bytea[]) AS n(key) ORDER BY n.key
ON CONFLICT (key) DO UPDATE SET at = now(), digests = substring(
	$2::bytea || CASE WHEN position($2::bytea IN l.digests) > 0
		THEN overlay(l.digests placing ''::bytea from position($2::bytea IN l.digests) for octet_length($2::bytea))
		ELSE l.digests END
	from 1 for $3)
WHERE substring(l.digests from 1 for octet_length($2::bytea)) <> $2::bytea OR l.at < now() - interval '1 day'`

	writeRecord = `
INSERT INTO pullgate_records AS r (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET at = now(), value = excluded.value
WHERE r.value <> excluded.value OR r.at < now() - interval '1 day'`
)

// Learn implements facts.Store, in one round trip and one transaction.
func (s *Store) Learn(ctx context.Context, f facts.Fact) (facts.Learned, error) {
	epoch := s.Era()
	parent := element(f.Manifest.Digest)
	if parent == nil {
		return facts.Learned{Epoch: epoch}, nil
	}
	keys := s.listKeys(f)
	records, err := s.records(f)
	if err != nil {
		return facts.Learned{}, err
	}

	var pushedOut []digest.Digest
	err = s.do(ctx, writing, func(ctx context.Context) error {
		pushedOut = nil
		batch := &pgx.Batch{}
		if len(keys) > 0 {
			batch.Queue(fullLists, keys, listBytes, listBytes-len(parent)).Query(func(rows pgx.Rows) error {
				for rows.Next() {
					var list []byte
					if err := rows.Scan(&list); err != nil {
						return err
					}
					for _, d := range cutOff(list, parent) {
						if !slices.Contains(pushedOut, d) {
							pushedOut = append(pushedOut, d)
						}
					}
				}
				return rows.Err()
			})
			batch.Queue(writeLists, keys, parent, listBytes)
		}
		for _, r := range records {
			batch.Queue(writeRecord, r.key, r.value)
		}
		if batch.Len() == 0 {
			return nil
		}
		return s.pool.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return facts.Learned{}, err
	}
	return facts.Learned{Epoch: s.learned(f.Repository, epoch), PushedOut: pushedOut}, nil
}

// cutOff is what a list loses when parent is put at its front.
func cutOff(list, parent []byte) []digest.Digest {
	all := elements(list)
	d := unpack(parent[1:])
	if slices.Contains(all, d) {
		return nil
	}
	kept := elements(append(bytes.Clone(parent), list...)[:min(listBytes, len(parent)+len(list))])
	return all[min(len(all), max(0, len(kept)-1)):]
}

// listKeys are the lists that f's manifest belongs into, each once and in order:
// two replicas that write the same lists must not wait for each other.
func (s *Store) listKeys(f facts.Fact) [][]byte {
	var keys [][]byte
	add := func(kind byte, d ...digest.Digest) {
		if key := s.names.of(kind, f.Repository, d...); key != nil {
			keys = append(keys, key)
		}
	}
	for _, d := range f.Parts.Manifests {
		add(byte(facts.PartManifest), d)
	}
	for _, d := range f.Parts.Blobs {
		add(byte(facts.PartBlob), d)
	}
	if len(f.Parts.Manifests) > 0 {
		add(indexesOf)
	}

	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

type record struct{ key, value []byte }

// records are what is kept of f's manifest, in the order of their keys.
func (s *Store) records(f facts.Fact) ([]record, error) {
	var list []record
	d := f.Manifest.Digest
	if len(f.Manifest.Bytes) <= facts.MaxManifestBytes {
		key := s.names.of(manifestOf, f.Repository, d)
		if value := facts.ManifestRecord(f.Manifest); len(value) <= recordBytes {
			list = append(list, record{key, value})
		}
	}
	if f.Evidence != nil {
		value, err := f.Evidence.Record()
		if err != nil {
			return nil, err
		}
		if value != nil {
			key := s.names.of(signaturesOf, f.Repository, d)
			list = append(list, record{key, s.names.seal(key, value)})
		}
	}
	if !f.SeenAt.IsZero() {
		key := s.names.of(seenOf, f.Repository, d)
		value := binary.AppendVarint(nil, f.SeenAt.Unix())
		list = append(list, record{key, s.names.seal(key, value)})
	}
	return list, nil
}

// Indexes implements facts.Store.
func (s *Store) Indexes(ctx context.Context, repo policy.Repository) ([]digest.Digest, error) {
	return s.list(ctx, s.names.of(indexesOf, repo))
}

// Parents implements facts.Store.
func (s *Store) Parents(
	ctx context.Context,
	repo policy.Repository,
	kind facts.PartKind,
	d digest.Digest,
) ([]digest.Digest, error) {
	return s.list(ctx, s.names.of(byte(kind), repo, d))
}

// list reads one list. A list of nothing was not written by a gate, and there may
// have been something else in its place.
func (s *Store) list(ctx context.Context, key []byte) ([]digest.Digest, error) {
	const readList = "SELECT substring(digests from 1 for $2) FROM pullgate_lists WHERE key = $1"

	value, ok, err := s.read(ctx, readList, key, listBytes)
	if err != nil || !ok {
		return nil, err
	}
	list := elements(value)
	if len(list) == 0 {
		s.measure.unreadable(ctx)
		return nil, ErrUnreadable
	}
	return list, nil
}

const readRecord = "SELECT substring(value from 1 for $2) FROM pullgate_records WHERE key = $1"

// Manifest implements facts.Store.
func (s *Store) Manifest(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
) (m oci.Manifest, ok bool, err error) {
	value, ok, err := s.read(ctx, readRecord, s.names.of(manifestOf, repo, d), recordBytes)
	if err != nil || !ok {
		return oci.Manifest{}, false, err
	}
	if m, ok = facts.ReadManifest(value, d); !ok {
		s.measure.unreadable(ctx)
	}
	return m, ok, nil
}

// Seen implements facts.Store. Without a namespace it is the database's word.
func (s *Store) Seen(ctx context.Context, repo policy.Repository, d digest.Digest) (time.Time, error) {
	value, err := s.sealed(ctx, s.names.of(seenOf, repo, d), binary.MaxVarintLen64)
	if err != nil {
		return time.Time{}, err
	}
	if at, used := binary.Varint(value); used > 0 && at > 0 {
		return time.Unix(at, 0), nil
	}
	return time.Time{}, nil
}

// Evidence implements facts.Store. Without a namespace its age is the database's
// word.
func (s *Store) Evidence(
	ctx context.Context,
	repo policy.Repository,
	d digest.Digest,
	now time.Time,
	maxAge time.Duration,
) (facts.Evidence, error) {
	value, err := s.sealed(ctx, s.names.of(signaturesOf, repo, d), facts.MaxEvidenceBytes)
	if err != nil || value == nil {
		return facts.Evidence{}, err
	}
	return facts.ReadEvidence(value).Within(now, maxAge), nil
}

// sealed reads a record that a gate of this namespace has sealed; nil when there is
// none.
func (s *Store) sealed(ctx context.Context, key []byte, most int) ([]byte, error) {
	value, ok, err := s.read(ctx, readRecord, key, most+sealBytes)
	if err != nil || !ok {
		return nil, err
	}
	value, ok = s.names.unseal(key, value)
	if !ok {
		s.measure.unreadable(ctx)
		return nil, nil
	}
	return value, nil
}

// read reads one value of at most so many bytes; ok is false where there is none.
func (s *Store) read(ctx context.Context, sql string, key []byte, most int) (value []byte, ok bool, err error) {
	if key == nil {
		return nil, false, nil
	}
	err = s.do(ctx, reading, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, sql, key, most).Scan(&value)
		ok = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err == nil && len(value) > most {
		return nil, false, fmt.Errorf("%w: %d bytes where at most %d were asked for", ErrUnreadable, len(value), most)
	}
	return value, ok, err
}
