package verify

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/pullgate/pullgate/verify/oci"

	bolt "go.etcd.io/bbolt"

	"github.com/pullgate/pullgate/policy"
	"github.com/pullgate/pullgate/verify/sigs"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a test may have closed it already
	return s
}

func manifestOf(parts ...digest.Digest) (oci.Manifest, oci.Structure) {
	b := []byte(fmt.Sprint(parts))
	return oci.Manifest{
		Bytes:     b,
		MediaType: "application/vnd.oci.image.index.v1+json",
		Digest:    digest.FromBytes(b),
	}, oci.Structure{Kind: oci.Index, Manifests: parts}
}

func TestStoreRemembersPerRepository(t *testing.T) {
	s := openStore(t)
	child := digest.FromString("child")
	a, b := policy.Repository{Host: "r.example", Path: "a"}, policy.Repository{Host: "r.example", Path: "b"}
	m, parts := manifestOf(child)
	if _, _, err := s.learn(a, m, parts, nil); err != nil {
		t.Fatal(err)
	}
	got, err := s.parents(a, partManifest, child)
	if err != nil || len(got) != 1 || got[0] != m.Digest {
		t.Fatalf("parents in a: %v, %v", got, err)
	}
	for name, ask := range map[string]func() ([]digest.Digest, error){
		"another repository": func() ([]digest.Digest, error) { return s.parents(b, partManifest, child) },
		"another kind":       func() ([]digest.Digest, error) { return s.parents(a, partBlob, child) },
		"another digest":     func() ([]digest.Digest, error) { return s.parents(a, partManifest, digest.FromString("x")) },
	} {
		if got, err := ask(); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v; want nothing", name, got, err)
		}
	}
}

func TestStoreKeepsNewestParents(t *testing.T) {
	s := openStore(t)
	child, repo := digest.FromString("child"), policy.Repository{Host: "r.example", Path: "a"}
	var last digest.Digest
	for i := range keptParents + 10 {
		m, parts := manifestOf(child, digest.FromString(fmt.Sprint(i)))
		last = m.Digest
		if _, _, err := s.learn(repo, m, parts, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.parents(repo, partManifest, child)
	if err != nil || len(got) != keptParents || got[0] != last {
		t.Fatalf("%d parents, first %v, %v; want %d, first %v", len(got), got[:1], err, keptParents, last)
	}
}

func TestStoreIsLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenStore(dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := OpenStore(dir, 1<<30); err == nil || !strings.Contains(err.Error(), "in use by another pullgate") {
		t.Fatalf("second process: %v", err)
	}
}

// A poisoned store names bytes that are not the digest's: they are not used.
func TestPoisonedManifestIsNotReturned(t *testing.T) {
	s, repo := openStore(t), policy.Repository{Host: "r.example", Path: "a"}
	d := digest.FromString("true")
	err := s.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(generations[0]).Bucket(manifestsBucket).Put(storeKey(repo, d), []byte("type\x00false"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.manifest(repo, d); ok || err != nil {
		t.Fatalf("ok=%v err=%v", ok, err)
	}
}

func TestTornParentList(t *testing.T) {
	for _, b := range [][]byte{nil, {0xff}, {5, 'a'}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		_ = decodeDigests(b) // must end
	}
}

func TestForeignStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(
		filepath.Join(dir, "facts.db"),
		[]byte(strings.Repeat("not a database ", 1000)),
		0o600,
	); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenStore(dir, 1<<30); err == nil {
		s.Close()
		t.Fatal("opened")
	}
}

// The state does not grow beyond what is allowed, and what is learnt again
// survives the elder generation.
func TestStoreIsBounded(t *testing.T) {
	dir := t.TempDir()
	const limit = 2 << 20
	s, err := OpenStore(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.db.NoSync = true // nothing here survives a crash
	repo, child := policy.Repository{Host: "r.example", Path: "a"}, digest.FromString("used again and again")
	used, parts := manifestOf(child)
	first := digest.FromString("pulled once")
	once, onceParts := manifestOf(first)
	if _, _, err := s.learn(repo, once, onceParts, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 1500 {
		m, p := manifestOf(digest.FromString(fmt.Sprint("child", i)))
		m.Bytes = append(m.Bytes, make([]byte, 2500)...)
		m.Digest = digest.FromBytes(m.Bytes)
		if _, _, err := s.learn(repo, m, p, nil); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if _, _, err := s.learn(repo, used, parts, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := os.Stat(filepath.Join(dir, "facts.db"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 2*limit {
		t.Errorf("the file has %d bytes, %d are allowed", info.Size(), limit)
	}
	if _, ok, err := s.manifest(repo, used.Digest); !ok || err != nil {
		t.Errorf("what is used is forgotten: %v", err)
	}
	if got, err := s.parents(repo, partManifest, first); err != nil || len(got) != 0 {
		t.Errorf("what was used once long ago is still there: %v %v", got, err)
	}
}

func TestKeptSignaturesAge(t *testing.T) {
	s, repo := openStore(t), policy.Repository{Host: "r.example", Path: "a"}
	m, parts := manifestOf(digest.FromString("child"))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	want := []sigs.Candidate{{Kind: sigs.Legacy, Payload: []byte("payload"), Annotations: map[string]string{"a": "b"}}}
	if _, _, err := s.learn(repo, m, parts, &kept{At: at, Signatures: want}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		now  time.Time
		repo policy.Repository
		n    int
	}{
		{at, repo, 1},
		{at.Add(time.Hour), repo, 1},
		{at.Add(time.Hour + 1), repo, 0},
		{at.Add(-1), repo, 0}, // a clock that was set back proves nothing
		{at, policy.Repository{Host: "r.example", Path: "b"}, 0},
	} {
		got, err := s.signatures(row.repo, m.Digest, row.now, time.Hour)
		if err != nil || len(got) != row.n {
			t.Errorf("%v in %v: %v, %v; want %d", row.now, row.repo, got, err, row.n)
		}
	}
}
