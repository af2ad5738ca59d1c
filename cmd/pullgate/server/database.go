package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
	"github.com/pullgate/pullgate/verify/facts/replicas"
)

// checkDatabase says what is wrong with the database that replicas share, as far as
// it can be told without asking it.
func (l *Loaded) checkDatabase() []policy.Problem {
	c := l.Config
	if c.Database == "" {
		return nil
	}

	var list []policy.Problem
	if err := (postgres.Config{URL: c.Database}).Check(); err != nil {
		list = append(list, c.Problem("database", "database: %v", err))
	}
	if file := c.Path(c.DatabasePasswordFile); file != "" {
		if f, err := os.Open(file); err != nil {
			list = append(list, c.Problem("databasePasswordFile", "databasePasswordFile: %v", err))
		} else {
			_ = f.Close() // it is read for each connection
		}
	}
	if file := c.Path(c.DatabaseNamespaceFile); file != "" {
		if _, err := postgres.ReadNamespace(file); err != nil {
			list = append(list, c.Problem("databaseNamespaceFile", "databaseNamespaceFile: %v", err))
		}
	}
	return list
}

// share lets e share its facts with other replicas, where the configuration names a
// database. A database that is away is no error: what this gate knows is served.
func (l *Loaded) share(ctx context.Context, e *engine, log *slog.Logger) error {
	c := l.Config
	if c.Database == "" {
		return nil
	}

	config := postgres.Config{URL: c.Database, PasswordFile: c.Path(c.DatabasePasswordFile)}
	if file := c.Path(c.DatabaseNamespaceFile); file != "" {
		secret, err := postgres.ReadNamespace(file)
		if err != nil {
			return fmt.Errorf("databaseNamespaceFile: %w", err)
		}
		config.Namespace = secret
	}
	shared, err := postgres.Open(config, l.telemetry.Meter)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}

	e.shared, err = replicas.New(ctx, replicas.Config{
		Own:         e.own,
		Shared:      shared,
		EvidenceTTL: c.Verdicts.TTL,
		MaxBytes:    int64(c.State.MaxBytes),
		Log:         log,
		Meter:       l.telemetry.Meter,
	})
	if err != nil {
		_ = shared.Close() // it was never used
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// facts are the stores that a gate decides from.
func (e *engine) facts() (facts.Store, verify.Others) {
	if e.shared == nil {
		return e.own, nil
	}
	return e.shared, e.shared.Others()
}
