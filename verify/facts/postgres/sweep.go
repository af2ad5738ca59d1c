package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// retention is for how long the database keeps what is not written again. What
	// gates use, they write again within a quarter of it.
	retention = "30 days"

	sweepLock  = 0x70756c6c67617466 // of pg_try_advisory_xact_lock
	sweepBatch = 5000               // rows deleted in one statement
	rowBytes   = 120                // of a row and its key in the index, beside key and value: measured
	fillTo     = 0.9                // of the bound, once it was exceeded
)

// Sweep deletes what was not written for a month, and the oldest of what exceeds
// maxBytes. Replicas may call it at once: one of them does it. No pull waits for it.
func (s *Store) Sweep(ctx context.Context, maxBytes int64) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var mine bool
		err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", int64(sweepLock)).Scan(&mine)
		if err != nil || !mine {
			return err
		}
		// Its rows are deleted outside of the transaction, a few at a time; the lock
		// only keeps other replicas away.
		if err := s.deleteBefore(ctx, "now() - interval '"+retention+"'"); err != nil {
			return err
		}
		if _, err := s.pool.Exec(
			ctx,
			"DELETE FROM pullgate_replicas WHERE at < now() - interval '1 hour'",
		); err != nil {
			return err
		}

		before, err := s.excess(ctx, maxBytes)
		if err != nil || before.IsZero() {
			return err
		}
		return s.deleteBefore(ctx, "$2::timestamptz", before)
	})
}

// deleteBefore deletes facts that were last written before a moment of SQL, whose
// argument, if any, is $2.
func (s *Store) deleteBefore(ctx context.Context, moment string, argument ...any) error {
	for _, table := range []string{"pullgate_lists", "pullgate_records"} {
		sql := "DELETE FROM " + table + " WHERE ctid = ANY(ARRAY(SELECT ctid FROM " + table +
			" WHERE at < " + moment + " AND key <> $1 LIMIT 5000))"
		for {
			done, err := s.pool.Exec(ctx, sql, append([]any{[]byte(sentinelKey)}, argument...)...)
			if err != nil {
				return err
			}
			if done.RowsAffected() < sweepBatch {
				break
			}
		}
	}
	return nil
}

// excess is the moment before which facts are to be deleted for the rest to fit into
// maxBytes; zero when all of them fit.
func (s *Store) excess(ctx context.Context, maxBytes int64) (time.Time, error) {
	const hours = `
SELECT date_trunc('hour', at), sum(octet_length(key) * 2 + octet_length(value) + $1)::bigint FROM (
	SELECT at, key, digests AS value FROM pullgate_lists
	UNION ALL SELECT at, key, value FROM pullgate_records
) facts GROUP BY 1 ORDER BY 1 DESC`

	rows, err := s.pool.Query(ctx, hours, rowBytes)
	if err != nil {
		return time.Time{}, err
	}
	defer rows.Close()

	var total int64
	var keep, hour time.Time // the oldest hour that fits
	for rows.Next() {
		var bytes int64
		if err := rows.Scan(&hour, &bytes); err != nil {
			return time.Time{}, err
		}
		total += bytes
		if float64(total) <= float64(maxBytes)*fillTo {
			keep = hour
		}
	}
	switch {
	case rows.Err() != nil || total <= maxBytes:
		return time.Time{}, rows.Err()
	case keep.IsZero(): // one hour alone has filled it
		return time.Now().Add(-time.Hour), nil
	}
	return keep, nil
}
