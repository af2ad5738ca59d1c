package replicas_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/pgtest"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/factstest"
	"github.com/pullgate/pullgate/verify/facts/postgres"
	"github.com/pullgate/pullgate/verify/facts/replicas"
	"github.com/pullgate/pullgate/verify/oci"
)

var repo = policy.Repository{Host: "r.example", Path: "a"}

// open opens a replica with the state in dir.
func open(t *testing.T, dir, url string) (store *replicas.Store, end func()) {
	t.Helper()
	own, err := facts.OpenBolt(dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := postgres.Open(postgres.Config{URL: url}, nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err = replicas.New(t.Context(), replicas.Config{
		Own:         own,
		Shared:      shared,
		EvidenceTTL: time.Hour,
		MaxBytes:    1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		if err := store.Close(); err != nil {
			t.Error(err)
		}
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return store, end
}

// TestReplicasConformance: the two stores together are one.
func TestReplicasConformance(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	var schemas atomic.Int64
	factstest.Conformance(t, func(t *testing.T) facts.Store {
		store, _ := open(t, t.TempDir(), server.URL(server.Schema(t, fmt.Sprint("s", schemas.Add(1)))))
		return store
	})
}

func imageOf(n int) facts.Fact {
	content := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[]}`, blob(n))
	return facts.Fact{
		Repository: repo,
		Manifest: oci.Manifest{
			Bytes:     content,
			MediaType: "application/vnd.oci.image.manifest.v1+json",
			Digest:    digest.FromBytes(content),
		},
		Parts: oci.Structure{Kind: oci.Image, Blobs: []digest.Digest{blob(n)}},
	}
}

func blob(n int) digest.Digest { return digest.FromString(fmt.Sprint("blob ", n)) }

// until waits until another replica knows what lists a blob.
func until(t *testing.T, what string, other *replicas.Store, n int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if list, err := other.Others().Parents(
			t.Context(),
			repo,
			facts.PartBlob,
			blob(n),
		); err == nil &&
			len(list) == 1 {
			return
		}
	}
	t.Errorf("%s: another replica does not know it", what)
}

// TestWrittenBack: what a replica knows is written again where the shared store has
// lost it, or was away; and what it learned without the others is told at its start.
func TestWrittenBack(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	dir := t.TempDir()
	one, end := open(t, dir, server.URL())
	two, _ := open(t, t.TempDir(), server.URL())
	learn := func(s facts.Store, n int) {
		t.Helper()
		if _, err := s.Learn(t.Context(), imageOf(n)); err != nil {
			t.Fatal(err)
		}
	}

	learn(one, 1)
	until(t, "learned", two, 1)
	before := one.Epoch(t.Context(), repo)
	server.SQL(t, "TRUNCATE pullgate_lists, pullgate_records")
	until(t, "after all was deleted", two, 1)
	if one.Epoch(t.Context(), repo) == before {
		t.Error("the epoch is the same: what is used is not written again")
	}

	server.Stop(t)
	learn(one, 2)
	server.Up(t)
	until(t, "after the database was away", two, 2)

	end()
	alone, err := facts.OpenBolt(dir, 1<<30) // as \`pullgate warm\` without a gate
	if err != nil {
		t.Fatal(err)
	}
	learn(alone, 3)
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}
	_, _ = open(t, dir, server.URL())
	until(t, "learned without the others", two, 3)
}

// TestForeignSchemaLater: a schema of another major version is left alone also when it
// comes while gates run.
func TestForeignSchemaLater(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	store, _ := open(t, t.TempDir(), server.URL())
	server.SQL(t, "UPDATE pullgate_schema SET major = 2")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := store.Others().Parents(t.Context(), repo, facts.PartBlob, blob(1))
		if errors.Is(err, postgres.ErrOpen) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is still read: %v", err)
		}
	}
	if _, err := store.Learn(t.Context(), imageOf(1)); err != nil {
		t.Errorf("what is learned here: %v", err)
	}
	if n := server.Value(t, "SELECT count(*) FROM pullgate_records"); n != 0 {
		t.Errorf("%d records were written", n)
	}

	server.SQL(t, "UPDATE pullgate_schema SET major = 1")
	until(t, "when it is back", store, 1)
}

// TestComplete: nothing is missing when each replica has said so, and only then.
func TestComplete(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	one, _ := open(t, t.TempDir(), server.URL())
	_, end := open(t, t.TempDir(), server.URL())
	if err := one.Others().Complete(t.Context()); err == nil {
		t.Error("a new store is complete")
	}
	server.SQL(t, `UPDATE pullgate_lists SET at = now() - interval '1 hour' WHERE key = '\x00'`)
	if err := one.Others().Complete(t.Context()); err != nil {
		t.Errorf("two replicas without anything to write: %v", err)
	}

	server.SQL(t, "INSERT INTO pullgate_replicas (id, store) VALUES ('killed', '')")
	if err := one.Others().Complete(t.Context()); err == nil {
		t.Error("a replica that does not answer has told everything")
	}
	server.SQL(t, "UPDATE pullgate_replicas SET at = now() - interval '2 minutes' WHERE id = 'killed'")
	if err := one.Others().Complete(t.Context()); err != nil {
		t.Errorf("after it is gone: %v", err)
	}
	end()
	if err := one.Others().Complete(t.Context()); err != nil {
		t.Errorf("after the other has ended: %v", err)
	}
	if n := server.Value(t, "SELECT count(*) FROM pullgate_replicas WHERE at > now() - interval '1 minute'"); n != 1 {
		t.Errorf("%d replicas are there, and one is", n)
	}

	server.ReadOnly(t, "on")
	late := time.Now().Add(30 * time.Second)
	for one.Others().Complete(t.Context()) == nil { // until the server's connections have taken it up
		if time.Now().After(late) {
			t.Fatal("what cannot be written is complete")
		}
	}
}
