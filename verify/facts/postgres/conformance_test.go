package postgres_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pullgate/pullgate/test/pgtest"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/factstest"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

// schemas numbers the schemas, each of which is a database of its own.
var schemas atomic.Int64

func open(t *testing.T, server *pgtest.Server, change ...func(*postgres.Config)) *postgres.Store {
	t.Helper()
	config := postgres.Config{URL: server.URL(server.Schema(t, fmt.Sprint("s", schemas.Add(1))))}
	for _, c := range change {
		c(&config)
	}
	return openAt(t, config)
}

func openAt(t *testing.T, config postgres.Config) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPostgresConformance(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	factstest.Conformance(t, func(t *testing.T) facts.Store { return open(t, server) })
	t.Run("sealed", func(t *testing.T) {
		factstest.Conformance(t, func(t *testing.T) facts.Store {
			return open(t, server, func(c *postgres.Config) { c.Namespace = []byte("a secret of the replicas") })
		})
	})
}
