package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The schema's version. A program works with every schema of its major version: a
// newer minor one only adds what it does not look at.
const (
	schemaMajor = 1
	schemaMinor = 1
)

// migrationLock keeps two replicas from migrating at once; of pg_advisory_xact_lock.
const migrationLock = 0x70756c6c67617465

// migrations lead from one minor version to the next; the first makes everything.
// Lists are written again and again: they leave room for it in their page, and are
// never moved out of it. Records are written once, mostly.
var migrations = [schemaMinor]string{`
CREATE TABLE pullgate_schema (
	one boolean PRIMARY KEY DEFAULT true CHECK (one),
	major integer NOT NULL,
	minor integer NOT NULL
);
CREATE TABLE pullgate_lists (
	key bytea PRIMARY KEY,
	digests bytea NOT NULL,
	at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
ALTER TABLE pullgate_lists ALTER COLUMN digests SET STORAGE PLAIN;
CREATE TABLE pullgate_records (
	key bytea PRIMARY KEY,
	value bytea NOT NULL,
	at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE pullgate_replicas (
	id bytea PRIMARY KEY,
	store text NOT NULL,
	at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
INSERT INTO pullgate_schema (major, minor) VALUES (1, 1);
`}

// SchemaError is a schema of another major version, which another program made.
type SchemaError struct{ Major, Minor int }

func (e *SchemaError) Error() string {
	return fmt.Sprintf("the database has schema %d.%d, this pullgate knows %d.x: use a pullgate of that version, "+
		"or give this one another database", e.Major, e.Minor, schemaMajor)
}

// prepare brings the schema to this program's version, unless it is there or
// beyond already, and gives the store an identity. Only one replica does so at a
// time.
func (s *Store) prepare(ctx context.Context) error {
	if minor, err := s.version(ctx, s.pool); err != nil || minor >= schemaMinor {
		return errors.Join(err, s.seed(ctx, s.pool))
	}

	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		from, err := s.version(ctx, tx)
		if err != nil {
			return err
		}
		for minor := from; minor < schemaMinor; minor++ {
			if _, err := tx.Exec(ctx, migrations[minor]); err != nil {
				return fmt.Errorf("migrate to schema %d.%d: %w", schemaMajor, minor+1, err)
			}
		}
		if from >= schemaMinor { // another replica was quicker
			return nil
		}
		_, err = tx.Exec(ctx, "UPDATE pullgate_schema SET major = $1, minor = $2", schemaMajor, schemaMinor)
		return err
	})
	if err != nil {
		return err
	}
	return s.seed(ctx, s.pool)
}

// querier is a pool or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version is the minor version of the schema; 0 where there is none.
func (s *Store) version(ctx context.Context, in querier) (int, error) {
	var exists bool
	if err := in.QueryRow(
		ctx,
		"SELECT to_regclass('pullgate_schema') IS NOT NULL",
	).Scan(
		&exists,
	); err != nil ||
		!exists {
		return 0, err
	}

	var major, minor int
	err := in.QueryRow(ctx, "SELECT major, minor FROM pullgate_schema").Scan(&major, &minor)
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	if major != schemaMajor {
		return 0, &SchemaError{major, minor}
	}
	return minor, nil
}

// seed gives the store an identity, unless it has one. It stands among the facts:
// a store that has lost them all has another.
func (s *Store) seed(ctx context.Context, in *pgxpool.Pool) error {
	identity := make([]byte, identityBytes)
	_, _ = rand.Read(identity) // never fails
	_, err := in.Exec(ctx,
		"INSERT INTO pullgate_lists (key, digests) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
		[]byte(sentinelKey), identity)
	return err
}
