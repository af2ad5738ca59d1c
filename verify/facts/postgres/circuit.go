package postgres

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxFailures is how many questions fail one after the other before no further one
// waits for the database.
const maxFailures = 3

// ErrOpen means that the database was not asked: it did not answer before.
var ErrOpen = errors.New("the database does not answer")

// circuit keeps pulls from waiting for a database that does not answer. Reading and
// writing fail apart: a standby can be read. The zero circuit is closed.
type circuit struct{ failures [2]atomic.Int64 }

// operation is what the database is asked for.
type operation int

const (
	reading operation = iota
	writing
	pulsing // which no circuit stops
)

func (o operation) String() string { return [...]string{"read", "write", "pulse"}[o] }

func (c *circuit) isOpen(o operation) bool { return c.failures[o].Load() >= maxFailures }

func (c *circuit) open() {
	for _, o := range []operation{reading, writing} {
		c.failures[o].Store(maxFailures)
	}
}

func (c *circuit) count(o operation, err error) {
	if err != nil {
		c.failures[o].Add(1)
		return
	}
	c.failures[o].Store(0)
}

// do asks the database, once more where a connection has ended meanwhile: all that
// is asked may be asked twice. A client that leaves says nothing of the database.
func (s *Store) do(ctx context.Context, o operation, ask func(context.Context) error) error {
	if s.circuit.isOpen(o) {
		return ErrOpen
	}

	err := s.measure.timed(ctx, o, ask)
	if err != nil && isLost(err) && ctx.Err() == nil {
		err = s.measure.timed(ctx, o, ask)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		s.circuit.count(o, err)
	}
	return err
}

// isLost reports whether the connection has ended, and not the time.
func isLost(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code == "57P01" || said.Code == "57P02" || said.Code == "57P03" || said.Code == "08006"
	}
	return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, pgx.ErrNoRows)
}

// says reports whether the database has answered with the error of that code.
func says(err error, code string) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && said.Code == code
}

// IsRefused reports whether the database has said that it will never take what it
// was given.
func IsRefused(err error) bool {
	var said *pgconn.PgError
	return errors.As(err, &said) && (strings.HasPrefix(said.Code, "22") || strings.HasPrefix(said.Code, "54"))
}

const (
	codeReadOnly = "25006"
	codeDiskFull = "53100"
	codeNoTable  = "42P01"
)
