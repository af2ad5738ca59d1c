package postgres_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/test/pgtest"
	"github.com/pullgate/pullgate/verify/facts"
	"github.com/pullgate/pullgate/verify/facts/postgres"
	"github.com/pullgate/pullgate/verify/oci"
)

// TestSweep: what is old goes, and the oldest of what is too much; what is left is
// still one store.
func TestSweep(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	s := openAt(t, postgres.Config{URL: server.URL()})
	repo := policy.Repository{Host: "r.example", Path: "a"}
	learn := func(n int) digest.Digest {
		t.Helper()
		blob := digest.FromString(fmt.Sprint("blob", n))
		content := fmt.Appendf(nil, "manifest %d", n)
		_, err := s.Learn(t.Context(), facts.Fact{
			Repository: repo,
			Manifest:   oci.Manifest{Bytes: content, Digest: digest.FromBytes(content)},
			Parts:      oci.Structure{Kind: oci.Image, Blobs: []digest.Digest{blob}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return blob
	}
	known := func(d digest.Digest) bool {
		t.Helper()
		parents, err := s.Parents(t.Context(), repo, facts.PartBlob, d)
		if err != nil {
			t.Fatal(err)
		}
		return len(parents) > 0
	}
	age := func(by string) {
		t.Helper()
		for _, table := range []string{"pullgate_lists", "pullgate_records"} {
			server.SQL(t, "UPDATE "+table+" SET at = at - interval '"+by+"'")
		}
	}

	old := learn(0)
	age("31 days")
	elder := learn(1)
	age("3 hours")
	young := learn(2)
	if err := s.Sweep(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	if known(old) || !known(elder) || !known(young) {
		t.Errorf("after a month: known %v, %v, %v; want the first forgotten", known(old), known(elder), known(young))
	}
	if err := s.Sweep(t.Context(), 700); err != nil {
		t.Fatal(err)
	}
	if known(elder) || !known(young) {
		t.Errorf("in little room: known %v, %v; want the elder forgotten", known(elder), known(young))
	}
	if n := server.Value(t, `SELECT count(*) FROM pullgate_lists WHERE key = '\x00'`); n != 1 {
		t.Error("the store has lost its identity")
	}
}
