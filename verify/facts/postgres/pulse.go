package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	identityBytes = 16

	// lateAfter is after how long a replica that has not pulsed may have learned
	// what it could not write.
	lateAfter = "5 seconds"
	// goneAfter is after how long it is not waited for any more.
	goneAfter = "60 seconds"
)

// Pulse is what one beat of a replica has found.
type Pulse struct {
	// Identity changes when facts may have been lost: the store is a new one, was
	// emptied, or another server or a restarted one has it now.
	Identity string
	// Age is how long the store has been there, by its clock.
	Age time.Duration
	// At is the database's time.
	At time.Time
	// Behind is how many other replicas do not claim, as of late enough, that all
	// they know is written to the store of this identity.
	Behind int
	// Others is how many other replicas there are.
	Others int
}

// The identity is that of the store and the start of its server: a standby that was
// promoted lacks what the old primary had written last.
const (
	beat = `
INSERT INTO pullgate_replicas AS r (id, store, at) VALUES ($1, $2, coalesce($3::timestamptz, clock_timestamp()))
ON CONFLICT (id) DO UPDATE SET store = excluded.store, at = excluded.at`

	look = `
WITH this AS (
	SELECT encode(substring(digests from 1 for 16), 'hex') || '/' ||
		extract(epoch from pg_postmaster_start_time())::text AS identity,
		extract(epoch from clock_timestamp() - at)::float8 AS age
	FROM pullgate_lists WHERE key = '\x00'
), others AS (
	SELECT store, at FROM pullgate_replicas
	WHERE id <> $1 AND at > clock_timestamp() - interval '` + goneAfter + `'
)
SELECT this.identity, this.age, clock_timestamp(),
	(SELECT major FROM pullgate_schema), (SELECT minor FROM pullgate_schema),
	(SELECT count(*) FROM others),
	(SELECT count(*) FROM others WHERE store <> this.identity
		OR at < coalesce($2::timestamptz, clock_timestamp() - interval '` + lateAfter + `'))
FROM this`
)

// Claim is what a replica says of itself.
type Claim struct {
	// Whole is the identity of the store to which all that the replica knows is
	// written; empty: something is not.
	Whole string
	// AsOf is the database's time at which that was so at the latest; zero: now.
	AsOf time.Time
}

// Beat tells the other replicas that this one is there, and finds out about them.
// It makes what is missing of the schema, and closes the circuit when the database
// answers.
//
// since is the database's time that the claims of others must be of to count; zero:
// any of the last seconds.
func (s *Store) Beat(ctx context.Context, claim Claim, since time.Time) (Pulse, error) {
	var p Pulse
	err := s.measure.timed(ctx, pulsing, func(ctx context.Context) (err error) {
		p, err = s.beat(ctx, claim, since)
		if says(err, codeNoTable) || errors.Is(err, pgx.ErrNoRows) {
			if err = s.prepare(ctx); err == nil {
				p, err = s.beat(ctx, claim, since)
			}
		}
		return err
	})

	s.measure.pulsed(err)
	var foreign *SchemaError
	switch {
	case errors.As(err, &foreign):
		s.circuit.open() // another program's facts are neither read nor written
		return Pulse{}, err
	case err != nil:
		s.closeForReading(ctx, err)
		return Pulse{}, err
	}
	s.circuit.count(reading, nil)
	s.circuit.count(writing, nil)
	return p, nil
}

// closeForReading lets a database be read that only refuses to be written.
func (s *Store) closeForReading(ctx context.Context, err error) {
	if !says(err, codeReadOnly) && !says(err, codeDiskFull) {
		return
	}
	var one int
	if s.pool.QueryRow(ctx, "SELECT 1 FROM pullgate_lists WHERE key = '\\x00'").Scan(&one) == nil {
		s.circuit.count(reading, nil)
	}
}

func (s *Store) beat(ctx context.Context, claim Claim, since time.Time) (Pulse, error) {
	var p Pulse
	var age float64
	var schema SchemaError
	batch := &pgx.Batch{}
	batch.Queue(beat, s.id, claim.Whole, orNull(claim.AsOf))
	batch.Queue(look, s.id, orNull(since)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&p.Identity, &age, &p.At, &schema.Major, &schema.Minor, &p.Others, &p.Behind)
	})
	err := s.pool.SendBatch(ctx, batch).Close()
	if err == nil && schema.Major != schemaMajor {
		return Pulse{}, &schema
	}
	p.Age = time.Duration(age * float64(time.Second))
	return p, err
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Leave tells the others that this replica is gone, and has nothing to write.
func (s *Store) Leave(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM pullgate_replicas WHERE id = $1", s.id)
	return err
}

// Renew gives the store another identity, unless it got one within the last minute.
func (s *Store) Renew(ctx context.Context) error {
	const forget = "DELETE FROM pullgate_lists WHERE key = $1 AND at < now() - interval '1 minute'"
	if _, err := s.pool.Exec(ctx, forget, []byte(sentinelKey)); err != nil {
		return err
	}
	return s.seed(ctx, s.pool)
}

// Ready checks the schema, makes what is missing, and says what is wrong: a
// *SchemaError when another program's schema is there.
func (s *Store) Ready(ctx context.Context) error { return s.prepare(ctx) }
