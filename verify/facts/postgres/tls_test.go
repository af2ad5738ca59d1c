package postgres_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pullgate/pullgate/test/pgtest"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

// TestTLS: a server is believed by its CA and its name.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := pgtest.New(t)
	ca := server.UpTLS(t)
	server.SQL(t, "CREATE USER careful SUPERUSER")
	other := filepath.Join(t.TempDir(), "other.pem")
	strange := pgtest.New(t)
	text, err := os.ReadFile(strange.UpTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, text, 0o600); err != nil {
		t.Fatal(err)
	}

	for name, row := range map[string]struct {
		host, ca string
		ok       bool
	}{
		"its CA and name": {"localhost", ca, true},
		"another CA":      {"localhost", other, false},
		"another name":    {"127.0.0.1", ca, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := postgres.Open(postgres.Config{
				URL: "postgres://careful@" + row.host + ":" + server.Port +
					"/postgres?sslmode=verify-full&sslrootcert=" + row.ca,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Ready(t.Context()); (err == nil) != row.ok {
				t.Errorf("%v", err)
			}
		})
	}
}
