package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pullgate/pullgate/test/pgtest"
	"github.com/pullgate/pullgate/verify/facts/postgres"
)

// TestPasswordFile: the password is read for each connection, so it may be replaced,
// and a wrong one is told to no one.
func TestPasswordFile(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	server.SQL(t, "CREATE USER careful SUPERUSER PASSWORD '"+secret+"'")
	server.Allow(t, "host all careful 127.0.0.1/32 scram-sha-256")
	file := filepath.Join(t.TempDir(), "password")
	write := func(password string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := postgres.Open(postgres.Config{
		URL:          strings.Replace(server.URL(), "gate@", "careful@", 1),
		PasswordFile: file,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })

	write("wrong-" + secret)
	if err := s.Ready(t.Context()); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("with a wrong password: %v", err)
	}
	write(secret)
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("with the right one: %v", err)
	}

	server.SQL(t, "ALTER USER careful PASSWORD 'another'")
	server.SQL(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'careful'")
	write("another")
	if err := s.Ready(t.Context()); err != nil {
		if err = s.Ready(t.Context()); err != nil { // the first finds the old connection closed
			t.Errorf("after it was replaced: %v", err)
		}
	}
}
